"""Generate the reference of job fields and components from their docstrings and options."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

from dbp.job.spec import (
    CheckpointSpec,
    DataSpec,
    JobSpec,
    ModelSpec,
    PublishSpec,
    StopSpec,
    TrainSpec,
)
from dbp.registry import ComponentInfo, OptionInfo, options_of

SECTIONS: Final = {
    "": JobSpec,
    "[data]": DataSpec,
    "[model]": ModelSpec,
    "[train]": TrainSpec,
    "[train.stop]": StopSpec,
    "[checkpoint]": CheckpointSpec,
    "[publish]": PublishSpec,
}

# A value for an option that has no default, by what it is; the first that fits.
SAMPLES: Final[tuple[tuple[str, Any], ...]] = (
    ("a list of kinds", [{"kind": "relu"}]),
    ("a list of whole numbers", [10, 20]),
    ("a whole number", 10),
    ("a number", 0.1),
    ("a text", "file"),
)

# Options of which a kind needs one, though each may be left out.
ONE_OF_SEVERAL: Final = {"parquet": {"target": "label"}}


def markdown(catalogue: Iterable[ComponentInfo]) -> str:
    """Return the whole reference as one page."""
    lines = [
        "# dbp: reference",
        "",
        "Made by `make reference` from the words of the fields and components themselves;",
        "`dbp components NAME` shows one of them, those of plug-ins, too.",
        "",
        "## Fields of a spec",
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"### `{title}`" if title else "### At the top", ""]
        lines += _markdown_table(options_of(section))
    group = ""
    for info in catalogue:
        if info.problem:
            continue
        if info.group != group:
            group = info.group
            lines += ["", f"## {group.capitalize()}"]
        lines += ["", f"### {info.kind}", "", _plain(info.text, "`"), ""]
        lines += ["```toml", example(info), "```", ""]
        lines += _markdown_table(info.options)
    return "\n".join(lines).rstrip() + "\n"


def page(info: ComponentInfo, width: int) -> Iterator[str]:
    """Return one component as lines for a terminal of this width."""
    yield f"{info.kind} ({info.group})"
    if info.problem:
        yield f"  cannot be used: {info.problem}"
        return
    for paragraph in _plain(info.text, "").split("\n\n"):
        yield ""
        yield from _wrapped(paragraph, width, "  ")
    yield ""
    yield f"  for instance:  {example(info)}"
    if info.options:
        yield ""
        yield "  options"
    for option in info.options:
        yield f"    {option.name}"
        yield from _wrapped(f"{option.doc} ({facts(option)})", width, "        ")


def facts(option: OptionInfo) -> str:
    """Return type, limits and default of an option in one line."""
    found = [option.type]
    if option.limits:
        found.append(option.limits)
    if option.required:
        found.append("required")
    elif option.default is not None:
        found.append(f"default {value_words(option.default)}")
    return ", ".join(found)


def value_words(value: Any) -> str:
    """Return a default as text; a component without options as its kind."""
    if dataclasses.is_dataclass(value):
        return "that of its own table"
    if isinstance(value, dict):
        options = [f"{name} = {value_words(v)}" for name, v in value.items() if name != "kind"]
        return f"{value['kind']} ({', '.join(options)})" if options else str(value["kind"])
    return json.dumps(value)


def example(info: ComponentInfo) -> str:
    """Return the component as written in a spec, with its required options."""
    options = {
        option.name: next(value for words, value in SAMPLES if words in option.type)
        for option in info.options
        if option.required
    }
    return _toml({"kind": info.kind, **options, **ONE_OF_SEVERAL.get(info.kind, {})})


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(v)}" for name, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _markdown_table(options: Iterable[OptionInfo]) -> list[str]:
    rows = [f"| `{o.name}` | {_cell(o.doc)} | {_cell(facts(o))} |" for o in options]
    return ["| option | what it is | values |", "|---|---|---|", *rows] if rows else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(text: str, quote: str) -> str:
    """Return a docstring without its markup, code in other quotes, or none."""
    return re.sub(r"``([^`]+)``", rf"{quote}\1{quote}", text)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=indent,
        break_on_hyphens=False,
    )  # fmt: skip


def as_json(found: Iterable[ComponentInfo]) -> str:
    """Return the catalogue as JSON values."""
    return json.dumps([dataclasses.asdict(info) for info in found], indent=2)
