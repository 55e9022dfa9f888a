"""Find file options in a document and make them absolute. Opens nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dbp.errors import InvalidSpec, Violation
from dbp.job.fields import at, shown
from dbp.job.spec import JobSpec
from dbp.registry import Group, component_class, field_types, union_arms

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def expand_files(
    document: Any, folder: Path, environment: Mapping[str, str]
) -> list[Violation]:
    """Expand ``${VAR}`` in the file options, in place, and make them absolute.

    Wildcards (``part-*.npy``) stay: they are part of the name. Returns the violations:
    variables that are not set, empty names.
    """
    violations: list[Violation] = []

    def expand(value: str, path: str) -> str:
        def substitute(match: re.Match[str]) -> str:
            name = match[1]
            if name not in environment:
                message = (
                    f"the environment variable {name!a} is not set, in {shown(value)}; "
                    f"set it: export {name}=VALUE"
                )
                violations.append(Violation(path, message))
            return environment.get(name, "")

        expanded = _VARIABLE.sub(substitute, value)
        if not expanded:
            violations.append(Violation(path, "must name a file, got an empty string"))
        if expanded.startswith("~"):
            message = f"~ is not expanded; write ${{HOME}} instead, got {shown(value)}"
            violations.append(Violation(path, message))
        return str(folder / expanded)

    for table, name, path in file_options(document):
        table[name] = expand(table[name], path)
    return violations


def file_options(document: Any) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield the table, key and path of each file option of known components."""
    return _in_dataclass(JobSpec, document, "", _in_component)


_Inside = Callable[[Group, Any, str], Iterator[tuple[dict[str, Any], str, str]]]


def _in_dataclass(
    cls: Any, table: Any, path: str, inside: _Inside
) -> Iterator[tuple[dict[str, Any], str, str]]:
    if not isinstance(table, dict):
        return
    annotations = field_types(cls)
    for field in dataclasses.fields(cls):
        value, where = table.get(field.name), at(path, field.name)
        group: Group | None = field.metadata.get("group")
        if field.metadata.get("file") and isinstance(value, str):
            yield table, field.name, where
        elif group is not None and isinstance(value, list):
            for index, item in enumerate(value):
                yield from inside(group, item, f"{where}[{index}]")
        elif group is not None:
            yield from inside(group, value, where)
        else:
            for part in union_arms(annotations[field.name]):
                if dataclasses.is_dataclass(part):
                    yield from _in_dataclass(part, value, where, inside)


def _in_component(
    group: Group, value: Any, path: str
) -> Iterator[tuple[dict[str, Any], str, str]]:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        return
    try:
        cls = component_class(group, kind)
    except InvalidSpec:
        return  # decode says so
    yield from _in_dataclass(cls, value, path, _in_component)
