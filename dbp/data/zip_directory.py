"""Limit the list of members of a zip archive before it is parsed."""

from __future__ import annotations

import struct
from typing import Final

from dbp.data.file import DataFile
from dbp.errors import InvalidData

MAX_MEMBERS: Final = 1024

# Of the list of members: 46 bytes, a name and extra fields for each.
MAX_DIRECTORY_BYTES: Final = 2**20

# APPNOTE 4.3.16: signature, numbers of disks and members, size and offset of the list, comment.
_END: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\x05\x06"
_LONGEST_COMMENT: Final = 2**16


def check_directory(file: DataFile) -> None:
    """Raise InvalidData for an archive with too many members, or too long a list of them.

    Python's zipfile parses the whole list first: half a gigabyte for a million members. A
    damaged archive passes; its reader names the damage.
    """
    tail_bytes = min(file.size, _END.size + _LONGEST_COMMENT)
    tail = file.read(file.size - tail_bytes, tail_bytes)
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        return
    _, _, _, _, members, list_bytes, _, _ = _END.unpack_from(tail, place)
    # 0xffff and 0xffffffff refer to the fields of ZIP64, for lists longer than the limits.
    if members > MAX_MEMBERS:
        count = "65,535 or more" if members == 2**16 - 1 else f"{members:,}"
        raise InvalidData(
            f"{file.name}: {count} arrays in the archive; at most {MAX_MEMBERS:,}"
        )
    if list_bytes > MAX_DIRECTORY_BYTES:
        raise InvalidData(
            f"{file.name}: the archive's list of members is damaged: it takes "
            f"{list_bytes:,} bytes; at most {MAX_DIRECTORY_BYTES:,}"
        )
