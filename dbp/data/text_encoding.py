"""Recognize text that is not UTF-8 or has CR line ends, and say how to convert it."""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import PurePath
from typing import Final

# Control characters that do not occur in text.
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

# Share of the high bytes that are 0 in text of mostly Latin letters.
_MOST: Final = 0.9

# Longer marks first: the mark of UTF-32-LE begins with that of UTF-16-LE.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def wide_encoding(head: bytes) -> str:
    """Return iconv's name of UTF-16 or UTF-32 where the first bytes show it, else ''."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for name, step, place in (
        ("UTF-32LE", 4, 0), ("UTF-32BE", 4, 3), ("UTF-16LE", 2, 0), ("UTF-16BE", 2, 1),
    ):  # fmt: skip
        letters = head[place::step]
        zeros = head.count(0) / max(1, len(head) - len(letters))
        if letters and 0 not in letters and zeros > _MOST:
            return name
    return ""


def is_text(head: bytes) -> bool:
    """Return whether these bytes are text of one byte or more a character."""
    return bool(head) and _CONTROLS.search(head) is None


def is_utf8(head: bytes) -> bool:
    """Return whether bytes are UTF-8; the last character may be cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def encoding_remedy(path: str, encoding: str) -> str:
    """Return the command that converts a file to UTF-8."""
    target = shlex.quote(beside(path, "utf8"))
    return f"convert it: iconv -f {encoding} -t UTF-8 {shlex.quote(path)} > {target}"


def eight_bit_remedy(path: str) -> str:
    """Return the command that converts text of an unknown encoding of one byte a character."""
    return (
        f"if its encoding is Windows-1252 (Western European), "
        f"{encoding_remedy(path, 'WINDOWS-1252')}"
    )


def line_ends_remedy(path: str) -> str:
    r"""Return the command that replaces the line ends \r by \n."""
    source, target = shlex.quote(path), shlex.quote(beside(path, "lf"))
    return rf"convert it: tr '\r' '\n' < {source} > {target}"


def beside(path: str, word: str) -> str:
    """Return a name for a converted copy: rows.utf8.csv of rows.csv."""
    pure = PurePath(path)
    return str(pure.with_name(f"{pure.stem}.{word}{pure.suffix}"))
