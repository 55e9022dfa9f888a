"""Find file options in a document and make them absolute. Opens nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.fields import at, shown
from dbp.job.spec.job_spec import JobSpec
from dbp.option_types import field_types, fields_of, union_arms
from dbp.registry import Group, component_class

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def expand_files(
    document: object, folder: Path, environment: Mapping[str, str]
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

    for option in file_options(document):
        option.table[option.name] = expand(option.file, option.path)
    return violations


@dataclass(frozen=True)
class FileOption:
    """A file named in a document: its field (``path``), and the table and key that hold it."""

    table: dict[str, object]
    name: str
    file: str
    path: str


def file_options(document: object) -> Iterator[FileOption]:
    """Yield the file options of a document's sections and known components."""
    return _in_dataclass(JobSpec, document, "")


def _in_dataclass(cls: type[object], table: object, path: str) -> Iterator[FileOption]:
    if not isinstance(table, dict):
        return
    if cls not in _FIELDS:
        _FIELDS[cls] = _leading_to_files(cls)
    for field in _FIELDS[cls]:
        if (value := table.get(field.name)) is None:
            continue
        where = at(path, field.name)
        if field.is_file and isinstance(value, str):
            yield FileOption(table, field.name, value, where)
        elif field.group is not None and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _in_component(field.group, item, f"{where}[{index}]")
        elif field.group is not None:
            yield from _in_component(field.group, value, where)
        else:
            for part in field.parts:
                yield from _in_dataclass(part, value, where)


@dataclass(frozen=True)
class _Field:
    """A field that names a file, holds components, or is of a dataclass of ``parts``."""

    name: str
    is_file: bool
    group: Group | None
    parts: tuple[type[object], ...]


# By class: a check of a spec walks through them several times.
_FIELDS: Final[dict[type[object], tuple[_Field, ...]]] = {}


def _leading_to_files(cls: type[object]) -> tuple[_Field, ...]:
    """Return the fields of a dataclass in which files may be named."""
    annotations = field_types(cls)
    found = [
        _Field(
            field.name,
            bool(field.metadata.get("file")),
            field.metadata.get("group"),
            tuple(
                part
                for part in union_arms(annotations[field.name])
                if isinstance(part, type) and dataclasses.is_dataclass(part)
            ),
        )
        for field in fields_of(cls)
    ]
    return tuple(field for field in found if field.is_file or field.group or field.parts)


def _in_component(group: Group, value: object, path: str) -> Iterator[FileOption]:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        return
    try:
        cls = component_class(group, kind)
    except InvalidSpec:
        return  # resolve says so
    yield from _in_dataclass(cls, value, path)
