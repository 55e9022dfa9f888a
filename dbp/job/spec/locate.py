"""Find the line of a field in a TOML text by parsing variations of it, never by guessing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dbp.errors import Violation
from dbp.json_value import JsonValue

MAX_TEXT = 65_536  # longer specs get no line numbers
MAX_PROBES = 200
_PROBE = "dbp-locator-probe"
_STEP = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]")

_Path = tuple[str | int, ...]


def with_lines(violations: Iterable[Violation], text: str) -> list[Violation]:
    """Return the violations with the line of each field where certain, sorted by line."""
    document = _document(text)
    located = []
    probes = MAX_PROBES
    for violation in violations:
        line = 0
        if document is not None and not violation.line and probes > 0:
            line, used = _line_of(violation.path, text, document)
            probes -= used
        located.append(replace(violation, line=line or violation.line))
    return sorted(located, key=lambda violation: violation.line or len(text) + 1)


def _document(text: str) -> dict[str, JsonValue] | None:
    try:
        return tomllib.loads(text) if text and len(text) <= MAX_TEXT else None
    except ValueError:  # the file has changed since it was read
        return None


def _line_of(path: str, text: str, document: dict[str, JsonValue]) -> tuple[int, int]:
    """Return the line (0: unknown) and how often the parser ran."""
    steps = _existing(_steps(path), document)
    if not steps:
        return 0, 0
    if isinstance(steps[-1], int):  # an element has no key: a text stands for itself
        element = _at(document, steps)
        if isinstance(element, str) and element:
            return _probe(steps, rf"(?<=[\"']){re.escape(element)}(?=[\"'])", text, document)
        if not isinstance(element, dict) or not element:
            return 0, 0
        steps = (*steps, next(iter(element)))
    key = re.escape(str(steps[-1]))
    return _probe(steps, rf"(?<![A-Za-z0-9_-]){key}(?![A-Za-z0-9_-])", text, document)


def _steps(path: str) -> _Path:
    """Return ``model.layers[2].units`` as ("model", "layers", 2, "units"), odd keys as ()."""
    matches = list(_STEP.finditer(path))
    if "".join(match[0] for match in matches) != path:
        return ()
    return tuple(match[1] if match[1] is not None else int(match[2]) for match in matches)


def _existing(steps: _Path, document: JsonValue) -> _Path:
    """Return the part of a path that the document has: a missing field gets the line of its
    table.
    """
    for index, step in enumerate(steps):
        try:
            document = _child(document, step)
        except LookupError:
            return steps[:index]
    return steps


def _child(document: JsonValue, step: str | int) -> JsonValue:
    """Return an element of a table or a list; raises LookupError if there is none."""
    if isinstance(document, Mapping) and isinstance(step, str):
        return document[step]
    if isinstance(document, list) and isinstance(step, int):
        item: JsonValue = document[step]
        return item
    raise LookupError(step)


def _at(document: JsonValue, steps: _Path) -> JsonValue:
    for step in steps:
        document = _child(document, step)
    return document


def _probe(
    steps: _Path, pattern: str, text: str, document: dict[str, JsonValue]
) -> tuple[int, int]:
    """Rename each occurrence and parse: the right one renames exactly this field."""
    wanted = repr(_renamed(document, steps))  # repr, since NaN does not equal itself
    asked = 0
    for match in re.finditer(pattern, text):
        if asked == MAX_PROBES:
            break
        asked += 1
        candidate = f"{text[: match.start()]}{_PROBE}{text[match.end() :]}"
        try:
            found = tomllib.loads(candidate)
        except ValueError:
            continue
        if repr(found) == wanted:
            return text.count("\n", 0, match.start()) + 1, asked
    return 0, asked


def _renamed(document: JsonValue, steps: _Path) -> JsonValue:
    """Return a copy with the key (or the text in a list) at the end of the path renamed."""
    head, rest = steps[0], steps[1:]
    if isinstance(document, list):
        return [
            (_renamed(item, rest) if rest else _PROBE) if index == head else item
            for index, item in enumerate(document)
        ]
    if not isinstance(document, dict):
        return document
    if not rest:
        return {(_PROBE if key == head else key): item for key, item in document.items()}
    return {
        key: _renamed(item, rest) if key == head else item for key, item in document.items()
    }
