"""Serialize a chunk of parameters by hand, without copying it more than once.

The message is the same in StreamParameters and WatchParameters: field 2 of both is the chunk,
whose fields are offset, crc32c and data. Encoding:
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from typing import Final

import google_crc32c

_CHUNK: Final = bytes([2 << 3 | 2])
_OFFSET: Final = bytes([1 << 3 | 0])
_CRC32C: Final = bytes([2 << 3 | 5])
_DATA: Final = bytes([3 << 3 | 2])


def chunk_message(offset: int, data: bytes) -> bytes:
    """Return a StreamParametersResponse with one ParametersChunk, serialized."""
    head = b"".join(
        (
            _OFFSET,
            _varint(offset),
            _CRC32C,
            struct.pack("<I", google_crc32c.value(data)),
            _DATA,
            _varint(len(data)),
        )
    )
    return b"".join((_CHUNK, _varint(len(head) + len(data)), head, data))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
