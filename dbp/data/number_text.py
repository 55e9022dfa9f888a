"""Recognize badly written numbers, and say how to write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from dbp.data.quoting import shown
from dbp.data_access import hides_contents

# Texts for a missing value, in lower case; float() accepts "nan" as a number.
MISSING: Final = frozenset(
    ("", "?", "-", "--", ".", "*", "na", "n/a", "#n/a", "#na", "<na>", "nat", "null", "none")
)

# Characters in numbers that float() does not accept.
_SIGNS: Final = str.maketrans("", "", " \u00a0\u202f'$€£¥%")
_INVISIBLE: Final = ("Cf", "Cc")  # Unicode's categories of format and control characters
_MINUS: Final = str.maketrans("\u2212\u2013", "--")
_GROUPS: Final = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_DECIMAL_COMMA: Final = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][-+]?\d+)?")
_DATE: Final = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_SPREADSHEET: Final = re.compile(r"#(DIV/0!|REF!|VALUE!|NAME\?|NUM!|NULL!)")
_HEX: Final = re.compile(r"0[xX][0-9a-fA-F]+")


def number(cell: str) -> float | None:
    """Return the number a cell holds, None if it holds none. Underscores group no digits."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def repaired(text: str) -> str:
    """Return a badly written number as float() reads it, "" for any other text."""
    plain = "".join(c for c in text if not _is_unseen(c))
    plain = plain.translate(_SIGNS).translate(_MINUS).strip()
    if _GROUPS.fullmatch(plain):
        plain = plain.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(plain):
        plain = plain.replace(".", "").replace(",", ".")
    return plain if number(plain) is not None else ""


def is_bad_value(cell: str) -> bool:
    """Return whether a cell looks like a missing value or a badly written number."""
    if cell == "Na":  # sodium
        return False
    return cell.lower() in MISSING or number(cell) is not None or bool(repaired(cell))


def number_hint(text: str) -> str:
    """Return how to write a text that is no finite number, after "; ", or "" if unknown."""
    if hides_contents():
        return ""
    cell = text.strip()
    for fits, remedy in _HINTS:
        if fits(cell):
            return f"; {remedy(cell)}"
    return ""


def not_finite(value: float) -> str:
    """Return the problem with a number that is infinite or NaN, and the remedy."""
    large = "" if math.isnan(value) else " (or a number too large for float64)"
    found = shown(value, "infinite or not a number")
    return f"{found}{large}, expected a finite number; {_FILL_IN}"


def _grouped(cell: str) -> str:
    """Return a hint for a comma before three digits, which groups digits or is decimal."""
    decimal = cell.replace(",", ".", 1)
    plain = f"write {cell.replace(',', '')}"
    if number(decimal) is None:
        return plain
    return f"{plain}, or {decimal} if the comma is a decimal comma"


def _is_invisible(cell: str) -> bool:
    return any(map(_is_unseen, cell)) and bool(repaired(cell))


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE and character != "\t"


_FILL_IN: Final = "fill it in, or leave the row out"

_HINTS: Final[list[tuple[Callable[[str], object], Callable[[str], str]]]] = [
    (lambda c: not c or number(c) is not None, lambda _: _FILL_IN),
    (_GROUPS.fullmatch, _grouped),
    (_DECIMAL_COMMA.fullmatch, lambda c: f"it has a decimal comma: write {repaired(c)}"),
    (_is_invisible, lambda c: f"it holds invisible characters: write {repaired(c)}"),
    (repaired, lambda c: f"write {repaired(c)}"),
    (lambda c: number(c.replace("_", "")) is not None, lambda c: f"write {c.replace('_', '')}"),
    (_HEX.fullmatch, lambda c: f"write {int(c, 16)}"),
    (lambda c: c.lower() in ("true", "false", "yes", "no"), lambda _: "write 1 and 0"),
    (lambda c: c.lower() in MISSING,
     lambda _: f"it looks like a missing value: {_FILL_IN}"),
    (_SPREADSHEET.fullmatch, lambda _: "it is an error of a spreadsheet: mend the formula"),
    (_DATE.fullmatch, lambda _: "it is a date: write a number, such as days since a date"),
]  # fmt: skip
