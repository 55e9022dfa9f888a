"""Call openat2(2), which opens a path without leaving a folder (Linux 5.6 and newer)."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_NUMBER: Final = 437  # the same on all architectures but alpha
_NO_MAGICLINKS: Final = 0x02
_NO_SYMLINKS: Final = 0x04
_BENEATH: Final = 0x08


class _How(ctypes.Structure):
    """The kernel's ``struct open_how``, of three numbers."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open a relative path below an open folder; the kernel follows no link and leaves not.

    Raises OSError: ELOOP for a link, EXDEV for a path that leads out, ENOSYS where there is no
    such call (EPERM where a sandbox refuses it).
    """
    if sys.platform != "linux":
        raise OSError(38, os.strerror(38), path)  # ENOSYS
    how = _How(flags=flags, resolve=_BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    size = ctypes.c_size_t(ctypes.sizeof(how))
    found = int(
        call(ctypes.c_long(_NUMBER), folder, os.fsencode(path), ctypes.byref(how), size)
    )
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found
