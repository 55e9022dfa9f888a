"""Labels of parameter versions: their names, and when a label's version is news."""

from __future__ import annotations

import re
from typing import Final

from dbp.errors import InvalidInput

BEST: Final = "best"
ALWAYS_NEWEST: Final = ("latest", "newest")
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,62}")


def moves_back(label: str) -> bool:
    """Return whether the label can move from a version to an earlier one.

    Without a label the newest version is meant, whose number only rises; so is by `latest`.
    """
    return bool(label) and label not in ALWAYS_NEWEST


def outlives_job(label: str) -> bool:
    """Return whether the label can still move when its job has ended: users move it."""
    return moves_back(label) and label != BEST


def is_news(version: int, known: int, label: str = "") -> bool:
    """Return whether a reader that has version ``known`` (0: none) is to get ``version``.

    A reader of the newest version gets higher numbers only, a reader of a label any other
    number.
    """
    return version != known if moves_back(label) else version > known


def check_name(label: str) -> None:
    """Raise InvalidInput for a name that no label can have."""
    if not _NAME.fullmatch(label):
        raise InvalidInput(
            "label: must be 1 to 63 lower-case letters, digits, dots, dashes and underscores, "
            f"a letter first, got {label[:80]!r}"
        )


def check_movable(label: str) -> None:
    """Raise InvalidInput unless users may move the label."""
    if label in ALWAYS_NEWEST:
        raise InvalidInput(f"label: {label!r} is no label: it always means the newest version")
    if label == BEST:
        raise InvalidInput(f"label: {BEST!r} is moved by the run itself; choose another name")
    check_name(label)
