"""Parse spec files, TOML or JSON, to documents. ``dbp.job.spec.check`` checks their fields."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dbp.errors import InvalidFile, InvalidSpec, nearest
from dbp.job.spec.check import check
from dbp.job.spec.fields import shown
from dbp.job.spec.files import expand_files
from dbp.job.spec.locate import with_lines
from dbp.job.spec.resolve import ResolvedSpec, resolve
from dbp.json_value import JsonValue

MAX_FILE_BYTES: Final = 2**20

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_DUPLICATE = re.compile(
    r"Cannot (overwrite a value|declare .* twice|mutate immutable namespace)|Duplicate "
)
_INLINE = re.compile(r"Invalid initial character for a key part|Unclosed inline table")
_TOKEN = re.compile(r"[^\s,\]}#]+|[^\s#]")

# Messages of the parser, and the text allowed at the place of the error.
_ALLOWED: Final = {
    "Invalid value": (
        'a string in quotes ("adam"), a number, true, false, a list [...] or a table {...}'
    ),
    "Invalid statement": "a key, or the name of a table in brackets",
    "Invalid initial character for a key part": (
        "a key of letters, digits, - and _, or a string in quotes"
    ),
    "Unclosed array": "a comma or ]",
    "Unclosed inline table": "a comma or }",
}
_TOO_LONG: Final = "holds a number of thousands of digits; allowed: below 2**63 in size"
_LEFT_OPEN: Final = "Illegal character '\\n'"


def parse_file(path: str | os.PathLike[str]) -> JsonValue:
    """Return the document in a .toml or .json file; raises InvalidFile.

    ``${VAR}`` in file options is expanded from the environment; relative paths are resolved
    against the folder of the spec. Where that fails, InvalidSpec names all violations.
    """
    source = os.fspath(path)
    document = _parser(source)(_read_text(source), source)
    problems = expand_files(document, Path(source).absolute().parent, os.environ)
    if problems:
        with located(source):
            check(document, problems)
    return document


def resolve_file(path: str | os.PathLike[str]) -> ResolvedSpec:
    """Return the resolved spec in a .toml or .json file; raises InvalidFile or InvalidSpec."""
    document = parse_file(path)
    with located(path):
        return resolve(document)


@contextlib.contextmanager
def located(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the file, and lines where they are certain, to an InvalidSpec raised inside."""
    try:
        yield
    except InvalidSpec as error:
        source = os.fspath(path)
        text = _read_text(source) if source.lower().endswith(".toml") else ""
        raise InvalidSpec(with_lines(error.violations, text), source) from error


def _parser(source: str) -> Callable[[str, str], JsonValue]:
    suffix = Path(source).suffix.lower()
    if suffix == ".toml":
        return parse_toml
    if suffix == ".json":
        return _parse_json
    raise InvalidFile(
        f"{source}: a spec is a .toml or a .json file, got {suffix or 'no suffix'}"
    )


def _read_text(source: str) -> str:
    try:
        info = Path(source).stat()
        if stat.S_ISDIR(info.st_mode):
            raise InvalidFile(f"{source}: is a folder; name the spec file in it")
        if not stat.S_ISREG(info.st_mode):
            raise InvalidFile(f"{source}: is no regular file")
        with Path(source).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidFile(f"{source}: no such file{nearest_file(source)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidFile(f"{ascii(source)[1:-1]}: cannot be read: {reason}") from error
    if len(content) > MAX_FILE_BYTES:
        raise InvalidFile(f"{source}: too large for a spec: over {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidFile(f"{source}:{line}: not UTF-8 text (byte {error.start})") from error
    if not text.strip():
        raise InvalidFile(f"{source}: is empty")
    return text


def nearest_file(source: str) -> str:
    """Return a hint for a path that does not exist: a broken link, similar name, no folder."""
    path = Path(source)
    if path.is_symlink():
        return f": it is a symbolic link to {path.readlink()}, which does not exist"
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"; there is no folder {path.parent} either"
    return nearest(path.name, names)


def parse_toml(text: str, source: str) -> dict[str, JsonValue]:
    """Return the document in a text; InvalidFile, which names ``source``, line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(f"{source}:{_toml_message(text, str(error))}") from error
    except RecursionError as error:
        raise InvalidFile(f"{source}: tables and lists are nested too deep") from error
    except ValueError as error:  # a number of thousands of digits
        raise InvalidFile(f"{source}: {_TOO_LONG}") from error


def _toml_message(text: str, error: str) -> str:
    """Return ``line:column: message, got ...; allowed: ...`` for an error of the parser."""
    place = _TOML_PLACE.search(error)
    message = error[: place.start()] if place else error
    if _DUPLICATE.match(message):
        message = f"duplicate key or table ({message})"
    if not place or not place[1]:
        return f"{text.count(chr(10)) + 1}: {message} at the end of the file"
    line, column = int(place[1]), int(place[2])
    rest = text.split("\n")[line - 1][column - 1 :].lstrip()
    if _INLINE.match(message) and (not rest or rest.startswith("#")):
        message = "an inline table { ... } must stand on one line"
    elif message == _LEFT_OPEN:
        message = "a string must end on its line, with the quote that it begins with"
    elif message in _ALLOWED:
        message = f"{message}, got {_token(rest)}; allowed: {_ALLOWED[message]}"
    elif message.startswith("Expected "):
        message = f"{message}, got {_token(rest)}"
    return f"{line}:{column}: {message}"


def _token(rest: str, end: str = "the end of the line") -> str:
    """Return the first token of a text for a message, or ``end`` if there is none."""
    match = _TOKEN.match(rest.lstrip())
    return shown(match[0]) if match else end


def _parse_json(text: str, source: str) -> JsonValue:
    def unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        table: dict[str, JsonValue] = {}
        for name, value in pairs:
            if name in table:
                raise InvalidFile(f"{source}: duplicate key {shown(name)}")
            table[name] = value
        return table

    try:
        document: JsonValue = json.loads(text, object_pairs_hook=unique)
        return document
    except json.JSONDecodeError as error:
        message = error.msg
        if message.startswith("Expecting"):
            message += f", got {_token(text[error.pos :], 'the end of the file')}"
        place = f"{source}:{error.lineno}:{error.colno}"
        raise InvalidFile(f"{place}: {message}") from error
    except RecursionError as error:
        raise InvalidFile(f"{source}: tables and lists are nested too deep") from error
    except ValueError as error:
        raise InvalidFile(f"{source}: {_TOO_LONG}") from error
