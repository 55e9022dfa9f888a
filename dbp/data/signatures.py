"""Recognize file formats by their first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GZIP: Final = b"\x1f\x8b"
NPY: Final = b"\x93NUMPY"
PARQUET: Final = b"PAR1"
HDF5: Final = b"\x89HDF\r\n\x1a\n"
ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")

# Type codes of IDX, the third byte of a file, and numpy's names of the types.
IDX_TYPES: Final[Mapping[int, str]] = {
    0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8",
}  # fmt: skip
IDX_MAX_DIMENSIONS: Final = 16

# HDF5 may begin after a block of the user's, of 512 bytes or a power of two times as many.
HDF5_OFFSETS: Final = (0, 512, 1024, 2048)


def is_idx(head: bytes) -> bool:
    """Return whether a file with these first bytes has an IDX header."""
    return (
        len(head) >= 4
        and head[:2] == b"\0\0"
        and head[2] in IDX_TYPES
        and 1 <= head[3] <= IDX_MAX_DIMENSIONS
    )


def is_hdf5(head: bytes) -> bool:
    """Return whether a file with these first bytes, 4096 or all, has an HDF5 signature."""
    return any(head.startswith(HDF5, offset) for offset in HDF5_OFFSETS)


def is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file of ``size`` bytes begins with the length of a JSON header."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8
