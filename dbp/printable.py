"""Make foreign text safe to print: a terminal must neither obey it nor show it out of order.

Text from a run, a log or a file may reach the terminal of another user. Escape sequences are
removed. Other control characters, and characters that change the direction of writing, are
shown as backslash escapes. See Unicode TR 36, section 2.10, and ECMA-48.
"""

from __future__ import annotations

import re
from typing import Final

# Complete escape sequences, with ESC or as one C1 character: CSI (colors, cursor), strings for
# the terminal (title, clipboard, device control), and short ones (reset, character sets).
_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[P\]X^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_LINE_BREAKS: Final = "\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029"
# Controls (C0, DEL, C1), marks, embeddings, overrides and isolates of direction, separators of
# lines and paragraphs, and halves of surrogate pairs.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNSAFE_BUT_TAB: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0a-\x1f"))
_BREAK: Final = re.compile(f"\r\n|[{_LINE_BREAKS}]")
_GAP: Final = re.compile(f"[\t{_LINE_BREAKS}]+")
_INDENT: Final = "  "


def printable_line(text: str) -> str:
    r"""Return the text as one line: tabs and line breaks become spaces.

    >>> printable_line("node1\x1b]0;title\x07\nDONE \x9b2J\u202e")
    'node1 DONE \\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, _GAP.sub(" ", _SEQUENCE.sub("", text)))


def printable_log_line(text: str) -> str:
    """Return one line of a log: as ``printable_line``, but tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE_BUT_TAB.sub(_escape, _BREAK.sub(" ", _SEQUENCE.sub("", text)))


def printable_lines(text: str) -> str:
    r"""Return a message of several lines; all but the first are indented.

    So no line of the message looks like a line of the program that prints it.

    >>> printable_lines("failed:\n\x1b[31mjobs/a SUCCEEDED\x1b[m")
    'failed:\n  jobs/a SUCCEEDED'
    """
    if text.isascii() and text.isprintable():
        return text
    first, *others = _BREAK.split(_SEQUENCE.sub("", text))
    return "\n".join([_clean(first), *map(_indented, others)])


def printable_output(text: str) -> str:
    """Return the output of a program: as it is, but for what a terminal would obey.

    Line feeds and tabs stay.
    """
    return "\n".join(map(printable_log_line, text.split("\n")))


def json_escaped(text: str) -> str:
    r"""Return JSON text with the characters escaped that are not safe to print.

    >>> json_escaped('{"host": "a\x9b2J"}')
    '{"host": "a\\u009b2J"}'
    """
    return text if text.isprintable() else _UNSAFE.sub(_json_escape, text)


def cut(text: str, most: int) -> str:
    """Return the first characters of a text, at most so many, and a mark if there are more.

    >>> cut("setosa", 6), cut("versicolor", 6)
    ('setosa', 'versic...')
    """
    return text if len(text) <= most else f"{text[:most]}..."


def is_printable(text: str) -> bool:
    """Return whether the text is one line that is safe to print."""
    return _UNSAFE.search(text) is None


def _clean(line: str) -> str:
    return _UNSAFE_BUT_TAB.sub(_escape, line)


def _indented(line: str) -> str:
    indent = "" if not line or line.startswith(_INDENT) else _INDENT
    return indent + _clean(line)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
