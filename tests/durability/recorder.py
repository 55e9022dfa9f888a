"""Records the changes that this process makes in a folder; can kill it at a named point.

A test's own child process installs it: it replaces functions of ``os`` and ``io`` in that
process, so dbp has no hook for it and no environment variable can switch it on.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, final

from tests.durability import operations as ops
from tests.durability.sqlite_files import recorded_sqlite

# Nothing in dbp changes files with these; an act that does needs them recorded.
UNKNOWN: Final = ("writev", "pwritev", "truncate", "sendfile", "copy_file_range", "splice")


@final
class Recorder:
    """The operations of this process on one folder, while ``recording`` is entered."""

    def __init__(self, root: Path, kill_at: str = "") -> None:
        """``kill_at``: SIGKILL before this operation: name and number, ``rename a b#2``."""
        self.root = root.resolve()
        self.operations: list[ops.Operation] = []
        self.points: list[str] = []
        self._kill_at = kill_at
        self._seen: Counter[str] = Counter()
        self._handles: dict[int, ops.Open] = {}
        self._next = 0
        self._lock = threading.RLock()

    def acknowledge(self, fact: str) -> None:
        """Record that the act has made this fact durable."""
        self.note(ops.Acknowledge(fact), lambda: None)

    def note(
        self,
        operation: ops.Operation,
        perform: Callable[[], Any],
        failed: Callable[[Any], bool] = lambda _: False,
    ) -> Any:
        """Perform an operation and record it, unless it fails: raises, or returns something
        that ``failed`` is true for.

        One at a time, so that the order is the real one. Does not return if the process is to
        be killed here.
        """
        with self._lock:
            name = ops.name_of(operation)
            self._seen[name] += 1
            point = f"{name}#{self._seen[name]}"
            if point == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            at = len(self.operations)
            self.operations.append(operation)
            self.points.append(point)
            done = False
            try:
                result = perform()
                done = not failed(result)
                return result
            finally:
                if not done:
                    del self.operations[at], self.points[at]

    def opened(self, path: str, *, created: bool = False, emptied: bool = False) -> ops.Open:
        """Return a new handle of a file; the caller notes it."""
        self._next += 1
        return ops.Open(self._next, path, created, emptied)

    def inside(self, path: Any, folder: int | None = None) -> str | None:
        """Return the path below the root; None if it is elsewhere."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        named = Path(os.fsdecode(path))
        if folder is not None and not named.is_absolute():
            base = self._handles.get(folder)
            return None if base is None else os.path.normpath(Path(base.path, named))
        named = Path(os.path.abspath(named))  # noqa: PTH100 (links are not followed)
        named = Path(os.path.realpath(named.parent)) / named.name
        return str(named.relative_to(self.root)) if named.is_relative_to(self.root) else None

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Replace the functions that change files, of this process and of its SQLite."""
        with _replaced(self), recorded_sqlite(self):
            yield

    # Replacements of functions of os and io: the same arguments as theirs

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: Any = None) -> int:
        inside = self.inside(path, dir_fd)
        if inside is None:
            fd = int(_os["open"](path, flags, mode, dir_fd=dir_fd))
            self._handles.pop(fd, None)  # of a file that was closed by its object
            return fd
        with self._lock:
            there = (self.root / inside).exists()
            created = bool(flags & os.O_CREAT) and not there
            handle = self.opened(inside, created=created, emptied=bool(flags & os.O_TRUNC))
            fd = int(self.note(handle, lambda: _os["open"](path, flags, mode, dir_fd=dir_fd)))
            self._handles[fd] = handle
            return fd

    def close(self, fd: int) -> None:
        with self._lock:
            self._handles.pop(fd, None)
            _os["close"](fd)

    def write(self, fd: int, data: Any) -> int:
        handle = self._handles.get(fd)
        if handle is None:
            return int(_os["write"](fd, data))
        return self.put(handle, fd, data, None, lambda: _os["write"](fd, data))

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        handle = self._handles.get(fd)
        if handle is None:
            return int(_os["pwrite"](fd, data, offset))
        return self.put(handle, fd, data, offset, lambda: _os["pwrite"](fd, data, offset))

    def put(
        self,
        handle: ops.Open,
        fd: int,
        data: Any,
        offset: int | None,
        perform: Callable[[], int],
    ) -> int:
        """Note a write at an offset, or at the descriptor's own."""
        with self._lock:
            if offset is None:
                append = _appends(fd)
                offset = os.fstat(fd).st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
            content = bytes(memoryview(data).cast("B"))
            count = int(
                self.note(ops.Write(handle.handle, handle.path, offset, content), perform)
            )
            if count != len(content):
                self.operations[-1] = ops.Write(
                    handle.handle, handle.path, offset, content[:count]
                )
            return count

    def ftruncate(self, fd: int, size: int) -> None:
        self.note_of(fd, lambda h: ops.Truncate(h.handle, h.path, size), "ftruncate", fd, size)

    def posix_fallocate(self, fd: int, offset: int, size: int) -> None:
        end = max(os.fstat(fd).st_size, offset + size)
        self.note_of(
            fd,
            lambda h: ops.Truncate(h.handle, h.path, end),
            "posix_fallocate",
            fd,
            offset,
            size,
        )

    def fsync(self, fd: Any) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        self.note_of(number, lambda h: ops.Sync(h.handle, h.path), "fsync", number)

    def note_of(
        self, fd: int, make: Callable[[ops.Open], ops.Operation], name: str, *arguments: Any
    ) -> None:
        """Call a function of os, and note it if the descriptor is of the folder."""
        handle = self._handles.get(fd)
        if handle is None:
            _os[name](*arguments)
        else:
            self.note(make(handle), lambda: _os[name](*arguments))

    def rename(self, source: Any, target: Any, **options: Any) -> None:
        self._two(ops.Rename, "replace", source, target, options)

    def link(self, source: Any, target: Any, **options: Any) -> None:
        self._two(ops.Link, "link", source, target, options)

    def _two(self, kind: Any, name: str, source: Any, target: Any, options: Any) -> None:
        before = self.inside(source, options.get("src_dir_fd"))
        after = self.inside(target, options.get("dst_dir_fd"))
        if (before is None) != (after is None):
            raise AssertionError(f"{name} across the border of {self.root}")
        if before is None or after is None:
            _os[name](source, target, **options)
        else:
            self.note(kind(before, after), lambda: _os[name](source, target, **options))

    def symlink(self, text: Any, path: Any, *arguments: Any, **options: Any) -> None:
        self._one(
            lambda inside: ops.Symlink(inside, os.fsdecode(text)), path, options,
            lambda: _os["symlink"](text, path, *arguments, **options),
        )  # fmt: skip

    def unlink(self, path: Any, **options: Any) -> None:
        self._one(ops.Remove, path, options, lambda: _os["unlink"](path, **options))

    def rmdir(self, path: Any, **options: Any) -> None:
        self._one(ops.Remove, path, options, lambda: _os["rmdir"](path, **options))

    def mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        self._one(ops.MakeFolder, path, options, lambda: _os["mkdir"](path, mode, **options))

    def _one(
        self,
        make: Callable[[str], ops.Operation],
        path: Any,
        options: Any,
        perform: Callable[[], None],
    ) -> None:
        inside = self.inside(path, options.get("dir_fd"))
        if inside is None:
            perform()
        else:
            self.note(make(inside), perform)

    def open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """Return the file as ``io.open`` does; one that writes below the root is recorded."""
        writes = set(mode) & set("wax+")
        known = self._handles.get(file) if isinstance(file, int) else None
        inside = self.inside(file)
        if not writes or (known is None and inside is None):
            return _io_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if opener is not None:
            raise AssertionError("an opener is not recorded")
        plain = mode.replace("b", "").replace("t", "")
        with self._lock:
            if known is None:
                assert inside is not None
                there = (self.root / inside).exists()
                known = self.opened(inside, created=not there, emptied="w" in mode and there)
                raw = self.note(known, lambda: RecordedFile(file, plain, closefd))
                self._handles[raw.fileno()] = known
            else:
                raw = RecordedFile(file, plain, closefd)
            raw.recorder, raw.handle = self, known
        if buffering == 0:
            return raw
        stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding, errors, newline)


class RecordedFile(io.FileIO):
    """A raw file whose writes are recorded."""

    recorder: Recorder
    handle: ops.Open

    def write(self, data: Any) -> int:
        write = super().write
        return self.recorder.put(self.handle, self.fileno(), data, None, lambda: write(data))

    def truncate(self, size: int | None = None) -> int:
        end = self.tell() if size is None else size
        truncate = super().truncate
        operation = ops.Truncate(self.handle.handle, self.handle.path, end)
        return int(self.recorder.note(operation, lambda: truncate(end)))


def _appends(fd: int) -> bool:
    import fcntl

    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


_NAMES: Final = {
    "open": "open", "close": "close", "write": "write", "pwrite": "pwrite",
    "ftruncate": "ftruncate", "posix_fallocate": "posix_fallocate", "fsync": "fsync",
    "fdatasync": "fsync", "rename": "rename", "replace": "rename", "link": "link",
    "symlink": "symlink", "unlink": "unlink", "remove": "unlink", "rmdir": "rmdir",
    "mkdir": "mkdir",
}  # fmt: skip
_os: Final[dict[str, Any]] = {n: getattr(os, n) for n in _NAMES if hasattr(os, n)}
_io_open: Final = io.open


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"os.{name} is not recorded")

    return refuse


@contextlib.contextmanager
def _replaced(recorder: Recorder) -> Iterator[None]:
    before = {name: getattr(os, name) for name in (*_os, *UNKNOWN) if hasattr(os, name)}
    try:
        for name in before:
            new = getattr(recorder, _NAMES[name]) if name in _os else _refused(name)
            setattr(os, name, new)
        io.open = builtins.open = recorder.open_file
        yield
    finally:
        for name, function in before.items():
            setattr(os, name, function)
        io.open = builtins.open = _io_open
