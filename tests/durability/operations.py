"""Operations on a folder, in the order in which a process asked for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias, final

_RANDOM = re.compile(r"[0-9a-f]{8,}|(?<=\.writing-)\d+")


@final
@dataclass(frozen=True)
class Open:
    """A file or folder was opened as ``handle``, and made or emptied by that."""

    handle: int
    path: str
    created: bool = False
    emptied: bool = False


@final
@dataclass(frozen=True)
class Write:
    """Bytes were written at an offset."""

    handle: int
    path: str
    offset: int
    data: bytes


@final
@dataclass(frozen=True)
class Truncate:
    """A file got another size."""

    handle: int
    path: str
    size: int


@final
@dataclass(frozen=True)
class Sync:
    """fsync or fdatasync of a file or folder."""

    handle: int
    path: str


@final
@dataclass(frozen=True)
class Rename:
    """An entry got another name, and replaced the entry that had it."""

    path: str
    target: str


@final
@dataclass(frozen=True)
class Link:
    """A file got a second name."""

    path: str
    target: str


@final
@dataclass(frozen=True)
class Symlink:
    """A symbolic link was made."""

    path: str
    text: str


@final
@dataclass(frozen=True)
class Remove:
    """A file, a link or an empty folder was removed."""

    path: str


@final
@dataclass(frozen=True)
class MakeFolder:
    """A folder was made."""

    path: str


@final
@dataclass(frozen=True)
class Acknowledge:
    """The act acknowledged that ``fact`` is durable: clients rely on it."""

    fact: str

    @property
    def path(self) -> str:
        return self.fact


Operation: TypeAlias = (
    Open | Write | Truncate | Sync | Rename | Link | Symlink | Remove | MakeFolder | Acknowledge
)


def name_of(operation: Operation) -> str:
    """Return the operation's name, the same in every run: random parts are left out."""
    words = [type(operation).__name__.lower(), operation.path]
    if isinstance(operation, Rename | Link):
        words.append(operation.target)
    return " ".join(_RANDOM.sub("*", word) for word in words)
