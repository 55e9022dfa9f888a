"""Records the operations of SQLite itself: a layer over its own file layer ``unix-excl``.

It is registered under that name in the SQLite library that ``sqlite3`` uses, so that
connections of dbp use it without knowing. (apsw offers such layers too, but only for a SQLite
of its own, through connections of its own.) It passes every call on, with its file objects, and
notes writes, truncations, syncs and removals; a sync of a folder is seen by SQLite's own call
to open it.
"""

from __future__ import annotations

import _sqlite3
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from tests.durability.operations import Open, Operation, Remove, Sync, Truncate, Write

_LAYER: Final = b"unix-excl"
_CREATE: Final = 0x4
_POINTER: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_LONG: Final = ctypes.c_int64
_TEXT: Final = ctypes.c_char_p

# The name is an address: SQLite keeps it, and parameters follow the name.
_OPEN: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_DELETE: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _TEXT, _INT)
_SET_CALL: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _TEXT, _POINTER)
_GET_CALL: Final = ctypes.CFUNCTYPE(_POINTER, _POINTER, _TEXT)
_OPEN_FOLDER: Final = ctypes.CFUNCTYPE(_INT, _TEXT, ctypes.POINTER(_INT))
_CLOSE: Final = ctypes.CFUNCTYPE(_INT, _POINTER)
_WRITE: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG)
_TRUNCATE: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _LONG)
_SYNC: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("iVersion", _INT), ("xClose", _CLOSE), ("xRead", _POINTER), ("xWrite", _WRITE),
        ("xTruncate", _TRUNCATE), ("xSync", _SYNC), ("xFileSize", _POINTER),
        ("xLock", _POINTER), ("xUnlock", _POINTER), ("xCheckReservedLock", _POINTER),
        ("xFileControl", _POINTER), ("xSectorSize", _POINTER),
        ("xDeviceCharacteristics", _POINTER), ("xShmMap", _POINTER), ("xShmLock", _POINTER),
        ("xShmBarrier", _POINTER), ("xShmUnmap", _POINTER), ("xFetch", _POINTER),
        ("xUnfetch", _POINTER),
    ]  # fmt: skip


class _File(ctypes.Structure):
    _fields_ = [("pMethods", ctypes.POINTER(_Methods))]


class _Layer(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = [
        ("iVersion", _INT), ("szOsFile", _INT), ("mxPathname", _INT), ("pNext", _POINTER),
        ("zName", _TEXT), ("pAppData", _POINTER), ("xOpen", _OPEN), ("xDelete", _DELETE),
        ("xAccess", _POINTER), ("xFullPathname", _POINTER), ("xDlOpen", _POINTER),
        ("xDlError", _POINTER), ("xDlSym", _POINTER), ("xDlClose", _POINTER),
        ("xRandomness", _POINTER), ("xSleep", _POINTER), ("xCurrentTime", _POINTER),
        ("xGetLastError", _POINTER), ("xCurrentTimeInt64", _POINTER),
        ("xSetSystemCall", _SET_CALL), ("xGetSystemCall", _GET_CALL),
        ("xNextSystemCall", _POINTER),
    ]  # fmt: skip


class Notes(Protocol):
    """A recorder, as this module uses it."""

    def note(
        self, operation: Operation, perform: Callable[[], Any], failed: Callable[[Any], bool]
    ) -> Any:
        """Perform an operation and record it, unless it fails."""
        ...

    def opened(self, path: str, *, created: bool = False, emptied: bool = False) -> Open:
        """Return a new handle."""
        ...

    def inside(self, path: Any, folder: int | None = None) -> str | None:
        """Return the path below the recorded folder; None if it is elsewhere."""
        ...


def library() -> Any:
    """Return the SQLite library of this Python; LookupError if its names are hidden."""
    found = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    try:
        found.sqlite3_vfs_find.restype = ctypes.POINTER(_Layer)
        found.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_Layer), _INT]
        found.sqlite3_vfs_unregister.argtypes = [ctypes.POINTER(_Layer)]
    except AttributeError as error:
        raise LookupError(
            "the SQLite of this Python is linked into it, names hidden"
        ) from error
    return found


@contextlib.contextmanager
def recorded_sqlite(notes: Notes) -> Iterator[None]:
    """Record the files that SQLite opens in the block; all are closed at its end."""
    sqlite = library()
    found = sqlite.sqlite3_vfs_find(_LAYER)
    plain = found.contents
    recorded = _Recorded(notes, plain, ctypes.addressof(plain))
    call = b"openDirectory"
    before = plain.xGetSystemCall(recorded.address, call)
    recorded.open_folder = _OPEN_FOLDER(before)
    hook = _OPEN_FOLDER(recorded.folder_opened)
    sqlite.sqlite3_vfs_register(ctypes.byref(recorded.layer), 0)  # found before the plain one
    plain.xSetSystemCall(recorded.address, call, ctypes.cast(hook, _POINTER))
    try:
        yield
    finally:
        plain.xSetSystemCall(recorded.address, call, before)
        sqlite.sqlite3_vfs_unregister(ctypes.byref(recorded.layer))
        assert not recorded.files, "a recorded database is still open"


class _Recorded:
    """The layer, and the files that are open through it, by the address of their object."""

    def __init__(self, notes: Notes, plain: _Layer, address: int) -> None:
        self.address = address
        self.files: dict[int, tuple[Open, _Methods, _Methods]] = {}
        self.open_folder: Any = None
        self._closed: list[object] = []
        self._notes = notes
        self._plain = plain
        self.layer = _Layer.from_buffer_copy(plain)
        self.layer.xOpen = _OPEN(self._open)
        self.layer.xDelete = _DELETE(self._delete)

    def _open(self, _: int, address: int | None, file: int, flags: int, out: int) -> int:
        name = None if address is None else ctypes.string_at(address)
        path = None if name is None else self._notes.inside(name)

        def opening() -> int:
            return int(self._plain.xOpen(self.address, address, file, flags, out))

        if path is None or name is None:
            return opening()
        created = bool(flags & _CREATE) and not os.path.exists(name)  # noqa: PTH110 (bytes)
        handle = self._notes.opened(path, created=created)
        code = int(self._notes.note(handle, opening, bool))
        held = _File.from_address(file)
        if code == 0 and held.pMethods:
            plain = held.pMethods.contents
            methods = _Methods.from_buffer_copy(plain)
            methods.xClose = _CLOSE(self._close)
            methods.xWrite = _WRITE(self._write)
            methods.xTruncate = _TRUNCATE(self._truncate)
            methods.xSync = _SYNC(self._sync)
            self.files[file] = (handle, plain, methods)
            held.pMethods = ctypes.pointer(methods)
        return code

    def _delete(self, _: int, name: bytes, sync_folder: int) -> int:
        path = self._notes.inside(name)

        def delete() -> int:
            return int(self._plain.xDelete(self.address, name, sync_folder))

        if path is None or not os.path.exists(name):  # noqa: PTH110 (bytes)
            return delete()
        return int(self._notes.note(Remove(path), delete, bool))

    def _close(self, file: int) -> int:
        entry = self.files.pop(file)
        self._closed.append(entry)  # its functions return after this one
        _File.from_address(file).pMethods = ctypes.pointer(entry[1])
        return int(entry[1].xClose(file))

    def _write(self, file: int, data: int, count: int, offset: int) -> int:
        handle, plain, _ = self.files[file]
        operation = Write(handle.handle, handle.path, offset, ctypes.string_at(data, count))
        return int(
            self._notes.note(operation, lambda: plain.xWrite(file, data, count, offset), bool)
        )

    def _truncate(self, file: int, size: int) -> int:
        handle, plain, _ = self.files[file]
        operation = Truncate(handle.handle, handle.path, size)
        return int(self._notes.note(operation, lambda: plain.xTruncate(file, size), bool))

    def _sync(self, file: int, flags: int) -> int:
        handle, plain, _ = self.files[file]
        operation = Sync(handle.handle, handle.path)
        return int(self._notes.note(operation, lambda: plain.xSync(file, flags), bool))

    def folder_opened(self, name: bytes, descriptor: Any) -> int:
        """SQLite opens the folder of a file to sync it, and for nothing else."""
        code = int(self.open_folder(name, descriptor))
        path = self._notes.inside(os.path.dirname(name))  # noqa: PTH120 (bytes)
        if code == 0 and path is not None:
            handle = self._notes.opened(path)
            self._notes.note(handle, lambda: None, bool)
            self._notes.note(Sync(handle.handle, path), lambda: None, bool)
        return code
