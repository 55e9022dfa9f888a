"""Cut bytes of UTF-8 text between characters."""

from __future__ import annotations

_LONGEST = 4  # bytes of a character


def whole_end(data: bytes) -> int:
    """Return the length of the data without a character that is cut at its end."""
    for back in range(1, min(_LONGEST, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character, or not UTF-8
            cut = byte >= 0xC0 and back < _length(byte)
            return len(data) - back if cut else len(data)
    return len(data)


def whole_start(data: bytes) -> int:
    """Return the offset of the first character that is not cut at the beginning."""
    for offset in range(min(_LONGEST, len(data))):
        if data[offset] & 0xC0 != 0x80:
            return offset
    return len(data) if len(data) < _LONGEST else 0


def _length(first: int) -> int:
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4
