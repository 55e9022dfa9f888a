"""Parse a chunk message by hand, without copying its bytes."""

from __future__ import annotations

import struct
from typing import Final

# StreamParametersResponse.chunk, and the fields of a chunk in the order that services write.
_CHUNK: Final = 2 << 3 | 2
_OFFSET: Final = 1 << 3 | 0
_CRC32C: Final = 2 << 3 | 5
_DATA: Final = 3 << 3 | 2


def chunk_of(message: bytes) -> tuple[int, int, int] | None:
    """Return (offset in the file, CRC-32C, position of the bytes in the message).

    None for messages that are not chunks of this form; protobuf parses those. Encoding:
    https://protobuf.dev/programming-guides/encoding
    """
    if not message or message[0] != _CHUNK:
        return None
    try:
        length, place = _varint(message, 1)
        if place + length != len(message) or message[place] != _OFFSET:
            return None
        offset, place = _varint(message, place + 1)
        if message[place] != _CRC32C:
            return None
        (crc32c,) = struct.unpack_from("<I", message, place + 1)
        if message[place + 5] != _DATA:
            return None
        length, place = _varint(message, place + 6)
    except (IndexError, struct.error):
        return None
    return (offset, crc32c, place) if place + length == len(message) else None


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """Return a number and the position after it; IndexError at the message's end."""
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
