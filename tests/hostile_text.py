"""Texts that do something to a terminal, and a check that a text does nothing to one."""

from __future__ import annotations

import unicodedata
from typing import Final

# Each is harmless once it is printed as characters alone.
SEQUENCES: Final = {
    "title": "\x1b]0;owned\x07",
    "title ended by ST": "\x1b]2;owned\x1b\\",
    "title in C1": "\x9d0;owned\x9c",
    "clear screen": "\x1b[2J\x1b[H",
    "clear screen in C1": "\x9b2J\x9bH",
    "cursor up, erase line": "\x1b[1A\x1b[2K",
    "hide text": "\x1b[8mhidden\x1b[0m",
    "colors": "\x1b[38;5;196mred\x1b[m",
    "alternate screen": "\x1b[?1049h",
    "reset": "\x1bc",
    "character set": "\x1b(0",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "hyperlink": "\x1b]8;;http://example.org\x1b\\text\x1b]8;;\x1b\\",
    "report of the cursor": "\x1b[6n",
    "device control": "\x1bP+q544e\x1b\\",
    "application command": "\x1b_payload\x1b\\",
    "privacy message": "\x1b^payload\x1b\\",
    "sequence in a sequence": "\x1b\x1b[0m[31m",
    "sequence in a title": "\x1b]0;\x1b[31mowned\x07",
    "title without an end": "\x1b]0;owned",
    "sequence without an end": "\x1b[31",
    "escape at the end": "\x1b",
    "bell": "\x07",
    "backspace": "ok\b\bno",
    "carriage return": "\rforged",
    "forged line": "\njobs/other SUCCEEDED",
    "forged line, other breaks": "\x0bone\x0ctwo\x85three\u2028four\u2029five\x1csix\x1eseven",
    "NUL and shifts": "\x00\x0e\x0f\x11\x13\x1a",
    "delete": "\x7f",
    "override": "\u202egpj.exe\u202c",
    "embedding": "\u202acode\u202b",
    "isolate": "\u2066a\u2067b\u2068c\u2069",
    "marks of direction": "\u200e\u200f\u061c",
    "every C1": "".join(map(chr, range(0x80, 0xA0))),
    "every C0": "".join(map(chr, range(0x20))),
    "half a surrogate pair": "\udc9b\ud83d",
}
_DIRECTIONS: Final = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_MARKS: Final = "\u200e\u200f\u061c"


def faults(text: str, allowed: str = "") -> list[str]:
    """Return the names of the characters that are not safe to print."""
    return [
        f"U+{ord(c):04X}"
        for c in text
        if c not in allowed
        and (
            unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(c) in _DIRECTIONS
            or c in _MARKS
        )
    ]
