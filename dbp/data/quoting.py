"""Show contents of data files in messages to the user himself, and their kind to others.

A job's errors reach other users: in answers of the service, in events and in logs. There they
name line, column and kind alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dbp.data_access import hides_contents
from dbp.printable import cut
from dbp.quantities import count_text

# Characters of a cell in messages: a line without the delimiter is one long cell.
SHOWN: Final = 40


def quoted(content: str, most: int = SHOWN) -> str:
    """Return a text of a file in quotes, or only its kind."""
    if not hides_contents():
        return repr(cut(content, most))
    if not content.strip():
        return "an empty text"
    try:
        float(content)
    except ValueError:
        return "a text"
    return "a number"


def shown(content: object, kind: str) -> str:
    """Return a value of a file, or only its kind, such as "a negative number"."""
    return kind if hides_contents() else str(content)


def hint(text: str) -> str:
    """Return a hint that quotes a file, or nothing."""
    return "" if hides_contents() else text


def listed(names: Sequence[str], most: int, kind: str) -> str:
    """Return the first names that a file holds, or how many of this kind there are."""
    if hides_contents():
        return count_text(len(names), kind)
    return ", ".join(names[:most]) or "none"
