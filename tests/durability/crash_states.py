"""The states of a folder that a power cut can leave, by the method of ALICE.

(Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.) A recording is replayed up
to some operation. Synced changes are there. Of the rest, writes to a file may be there or not,
each for itself, and a write of several blocks in part; names may be there or not. ext4 with
data=ordered keeps the order of names; POSIX does not, so other orders are tried too.

Assumed: a disk block (512 bytes) is written whole or not at all; fsync of a file says nothing
about its name; a rename is atomic.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias, final

from tests.durability.operations import (
    Acknowledge,
    Link,
    MakeFolder,
    Open,
    Operation,
    Remove,
    Rename,
    Symlink,
    Sync,
    Truncate,
    Write,
)

BLOCK: Final = 512
_NEVER: Final = math.inf

# Content by path: bytes of a file, None for a folder, the target of a link.
Tree: TypeAlias = dict[str, "bytes | str | None"]


@dataclass
class _Node:
    """A file, a link or a folder before the recording, and all effects on it."""

    content: bytes | str | None


@dataclass
class _Effect:
    """A change of a file's bytes, or of names, and the operation that makes it durable."""

    at: int
    durable_at: float = _NEVER


@dataclass
class _Data(_Effect):
    node: int = 0
    offset: int = 0
    data: bytes = b""
    size: int | None = None  # of a truncation

    def apply(self, content: bytearray) -> None:
        end = self.offset if self.size is None else self.size
        content.extend(bytes(max(0, end - len(content))))
        if self.size is None:
            content[self.offset : self.offset + len(self.data)] = self.data
        else:
            del content[self.size :]

    def torn(self) -> Iterator[_Data]:
        """Yield this write without its last blocks, and without its first ones."""
        first = -self.offset % BLOCK or BLOCK
        cuts = range(first, len(self.data), BLOCK)
        if self.size is None and cuts:
            cut = cuts[len(cuts) // 2]
            yield _Data(self.at, node=self.node, offset=self.offset, data=self.data[:cut])
            rest, offset = self.data[cut:], self.offset + cut
            yield _Data(self.at, node=self.node, offset=offset, data=rest)


@dataclass
class _Names(_Effect):
    changes: list[tuple[int, str, int | None]] = field(default_factory=list)
    waits_for: set[int] = field(default_factory=set)  # folders to sync


def tree_of(folder: Path) -> Tree:
    """Return the content of a folder."""
    tree: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            tree[name] = str(path.readlink())
        else:
            tree[name] = None if path.is_dir() else path.read_bytes()
    return tree


def write_tree(tree: Tree, folder: Path) -> None:
    """Replace a folder by this content; folders and files are private."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, content in sorted(tree.items()):
        path = folder / name
        if content is None:
            path.mkdir(mode=0o700)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.touch(mode=0o600)
            path.write_bytes(content)


def key_of(tree: Tree) -> frozenset[tuple[str, int]]:
    """Return a key of a folder's content: hashes, which bytes objects keep."""
    return frozenset((name, hash(content)) for name, content in tree.items())


@final
class Replay:
    """A recording, replayed onto the folder as it was before."""

    def __init__(self, before: Tree, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self._nodes: list[_Node] = [_Node(None)]
        self._durable: dict[tuple[int, str], int] = {}  # entries before the recording
        self._effects: list[_Effect] = []
        self._handles: dict[int, int] = {}
        for name, content in sorted(before.items()):
            self._durable[self._entry(name, self._durable)] = self._new(content)
        self._now = dict(self._durable)  # entries as processes see them
        for at, operation in enumerate(operations):
            self._take(at, operation)

    # Replay: which node each operation is about, and when its effect is durable

    def _new(self, content: bytes | str | None) -> int:
        self._nodes.append(_Node(content))
        return len(self._nodes) - 1

    def _entry(self, path: str, entries: dict[tuple[int, str], int]) -> tuple[int, str]:
        """Return folder and name of a path."""
        *folders, name = path.split("/")
        node = 0
        for folder in folders:
            node = entries[(node, folder)]
        return node, name

    def _find(self, path: str) -> int:
        return 0 if path == "." else self._now[self._entry(path, self._now)]

    def _take(self, at: int, operation: Operation) -> None:
        match operation:
            case Open():
                if operation.created:
                    self._name(at, {operation.path: self._new(b"")})
                node = self._find(operation.path)
                self._handles[operation.handle] = node
                if operation.emptied:
                    self._effects.append(_Data(at, node=node, size=0))
            case Write():
                node = self._handles[operation.handle]
                effect = _Data(at, node=node, offset=operation.offset, data=operation.data)
                self._effects.append(effect)
            case Truncate():
                node = self._handles[operation.handle]
                self._effects.append(_Data(at, node=node, size=operation.size))
            case Sync():
                self._sync(at, self._handles[operation.handle])
            case _:
                self._take_names(at, operation)

    def _take_names(self, at: int, operation: Operation) -> None:
        match operation:
            case MakeFolder():
                self._name(at, {operation.path: self._new(None)})
            case Symlink():
                self._name(at, {operation.path: self._new(operation.text)})
            case Remove():
                self._name(at, {operation.path: None})
            case Rename():
                node = self._find(operation.path)
                self._name(at, {operation.path: None, operation.target: node})
            case Link():
                self._name(at, {operation.target: self._find(operation.path)})

    def _name(self, at: int, nodes: dict[str, int | None]) -> None:
        effect = _Names(at)
        for path, node in nodes.items():
            entry = self._entry(path, self._now)
            effect.changes.append((*entry, node))
            effect.waits_for.add(entry[0])
            if node is None:
                self._now.pop(entry, None)
            else:
                self._now[entry] = node
        self._effects.append(effect)

    def _sync(self, at: int, node: int) -> None:
        for effect in self._effects:
            if effect.durable_at < _NEVER:
                continue
            if isinstance(effect, _Names):
                effect.waits_for.discard(node)
                if not effect.waits_for:
                    effect.durable_at = at
            elif isinstance(effect, _Data) and effect.node == node:
                effect.durable_at = at

    # States

    def killed(self, at: int) -> Tree:
        """Return the folder after a kill of the process before operation ``at``: all that was
        done is there.
        """
        return self._tree([effect for effect in self._effects if effect.at < at])

    def power_cuts(
        self, at: int, rng: random.Random, share: float = 1.0, *, chosen: int = 3
    ) -> Iterator[Tree]:
        """Yield folders that a power cut before operation ``at`` can leave.

        The first has only synced changes, the second all of them; ``chosen`` are drawn. With a
        ``share`` below 1: the first, where a sync or an acknowledgement comes before, and so
        many of the others.
        """
        done = [effect for effect in self._effects if effect.at < at]
        pending = [effect for effect in done if effect.durable_at >= at]
        synced = [effect for effect in done if effect.durable_at < at]
        for number, subset in enumerate(self._subsets(pending, rng, chosen)):
            drawn = rng.random() < share
            if drawn or (not number and self._changes_what_must_stand(at - 1)):
                yield self._tree(sorted([*synced, *subset], key=lambda effect: effect.at))

    def _changes_what_must_stand(self, at: int) -> bool:
        return at < 0 or isinstance(self.operations[at], Sync | Acknowledge)

    def _subsets(
        self, pending: list[_Effect], rng: random.Random, chosen: int
    ) -> Iterator[list[_Effect]]:
        yield []
        if not pending:
            return
        yield pending
        names: list[_Effect] = [each for each in pending if isinstance(each, _Names)]
        data: list[_Effect] = [each for each in pending if isinstance(each, _Data)]
        for count in range(len(names) + 1):  # names in their order, with and without bytes
            yield names[:count]
            yield names[:count] + data
        for one in pending:  # any one alone, any one missing
            yield [one]
            yield [each for each in pending if each is not one]
        for one in data:
            assert isinstance(one, _Data)
            for part in one.torn():
                yield [part if each is one else each for each in pending]
                yield [*names, part]
        for _ in range(chosen):
            yield [each for each in pending if rng.random() < 0.5]

    def _tree(self, effects: Sequence[_Effect]) -> Tree:
        """Return the folder after these effects and no others."""
        entries: dict[tuple[int, str], int] = dict(self._durable)
        for effect in effects:
            if isinstance(effect, _Names):
                _rename(entries, effect)
        contents = self._contents([each for each in effects if isinstance(each, _Data)])
        below: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), node in entries.items():
            below.setdefault(folder, []).append((name, node))
        tree: Tree = {}
        waiting = [("", 0)]
        while waiting:
            path, folder = waiting.pop()
            for name, node in below.get(folder, ()):
                tree[path + name] = contents[node]
                if contents[node] is None:
                    waiting.append((f"{path}{name}/", node))
        return tree

    def _contents(self, effects: Sequence[_Data]) -> list[bytes | str | None]:
        """Return the content of each node after these effects."""
        contents = [node.content for node in self._nodes]
        changed: dict[int, bytearray] = {}
        for effect in effects:
            if effect.node not in changed:
                content = contents[effect.node]
                assert isinstance(content, bytes)
                changed[effect.node] = bytearray(content)
            effect.apply(changed[effect.node])
        for node, new in changed.items():
            contents[node] = bytes(new)
        return contents


def _rename(entries: dict[tuple[int, str], int], effect: _Names) -> None:
    for folder, name, node in effect.changes:
        if node is None:
            entries.pop((folder, name), None)
        else:
            entries[(folder, name)] = node
