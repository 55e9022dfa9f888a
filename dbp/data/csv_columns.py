"""Assign roles to the columns of a text file by its first line: input, text, ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from dbp.column_names import normalized_name
from dbp.data.column_notes import LISTED, inputs_option
from dbp.data.csv_header import Verdict, is_nameless, judge
from dbp.data.quoting import SHOWN, hint, quoted
from dbp.data_access import hides_contents
from dbp.errors import InvalidData, nearest
from dbp.printable import cut

Column = str | int

# Characters that divide the columns of tables, the more likely ones first.
_DELIMITERS: Final = ";\t,| "


@dataclass(frozen=True)
class ColumnChoice:
    """Options of a reader that choose the columns of a text file.

    ``apart``: columns kept as text. ``inputs``: the inputs in this order; None: all other
    columns. ``leave_out``: names of columns that are no inputs, if the file has them.
    ``header``: auto, yes or no. ``remedies``: how to say yes and no, for messages.
    ``can_choose``: whether an option of the user's chooses the inputs.
    """

    delimiter: str
    apart: Sequence[Column] = ()
    inputs: Sequence[Column] | None = None
    leave_out: Sequence[str] = ()
    header: str = "auto"
    remedies: tuple[str, str] = ('header = "yes"', 'header = "no"')
    can_choose: bool = True

    @property
    def wanted(self) -> tuple[Column, ...]:
        """All columns that are asked for by name or position."""
        return (*self.apart, *(self.inputs or ()))

    @property
    def is_guessed(self) -> bool:
        """Whether the file alone decides if line 1 is a header."""
        return self.header == "auto" and not any(isinstance(w, str) for w in self.wanted)

    def say_delimiter(self, delimiter: str) -> str:
        """Return the remedy for lines with another delimiter."""
        if not self.can_choose:
            return delimiter_option(delimiter)
        if delimiter == "\t":
            return 'kind = "tsv"'
        return f'kind = "csv", delimiter = "{delimiter}"'

    @property
    def say_which(self) -> str:
        """The remedy where line 1 could be both."""
        return f"say {self.remedies[0]} or {self.remedies[1]}"


@final
@dataclass
class Columns:
    """Positions of the columns by role; ``names`` of all of them, empty without a header.

    ``index``: whether the first column has no name and must therefore count the rows.
    """

    count: int
    verdict: Verdict
    apart: list[int]
    inputs: list[int]
    names: list[str] = field(default_factory=list)
    index: bool = False

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs in their order; empty without a header."""
        return self._named(self.inputs)

    @property
    def apart_names(self) -> tuple[str, ...]:
        """The names of the columns apart in their order; empty without a header."""
        return self._named(self.apart)

    def _named(self, positions: list[int]) -> tuple[str, ...]:
        return tuple(self.names[position] for position in positions) if self.names else ()

    def shown(self, position: int) -> str:
        """Return a column as messages name it: by its name, else by its position as in
        ``target``.
        """
        if self.names and not hides_contents():
            return f"column {cut(self.names[position], SHOWN)!r}"
        return f"column {position} (counted from 0)"


def assign_columns(place: str, first: list[str], choice: ColumnChoice) -> Columns:
    """Return the roles of the columns by the file's first line, at ``place``; raises
    InvalidData.
    """
    cells = [normalized_name(cell) for cell in first]
    apart_only = choice.inputs is None
    if apart_only and choice.apart and len(cells) <= len(choice.apart):
        divided = delimiter_hint(cells, choice) or f", separated by {choice.delimiter!r}"
        raise InvalidData(
            f"{place}: {_count(len(cells))}, expected inputs beside "
            f"{_count(len(choice.apart))} for targets and weights{divided}; the line begins "
            f"{quoted(first[0])}"
        )
    places: dict[str, list[int]] = {}
    for position, cell in enumerate(cells):
        places.setdefault(cell, []).append(position)
    apart = [_position(place, cells, places, wanted) for wanted in choice.apart]
    chosen = [_position(place, cells, places, wanted) for wanted in choice.inputs or ()]
    _check_roles(place, choice, [*apart, *chosen])
    left_out, taken = set(map(normalized_name, choice.leave_out)), frozenset(apart)
    others = [
        position
        for position, cell in enumerate(cells)
        if position not in taken and cell not in left_out
    ]
    inputs = others if apart_only else chosen
    verdict = _verdict(place, cells, inputs, choice)
    columns = Columns(len(cells), verdict, apart, inputs)
    if verdict != "sample":
        columns.names = cells
        if apart_only:
            _leave_index_out(place, columns, choice)
        _check_unique(place, columns, choice)
        if not columns.inputs:
            raise InvalidData(f"{place}: no columns of inputs beside {_listed(cells)}")
    return columns


def _position(
    place: str, cells: list[str], places: Mapping[str, list[int]], wanted: Column
) -> int:
    """Return the position of a column; raises InvalidData if there is none or several.

    ``places``: the positions of each cell.
    """
    if isinstance(wanted, str):
        found = places.get(normalized_name(wanted), [])
        if len(found) != 1:
            near = hint(nearest(wanted, cells)) if not found else ""
            raise InvalidData(
                f"{place}: {len(found) or 'no'} columns named {wanted!r}, expected one{near}; "
                f"the line holds: {_listed(cells)}"
            )
        return found[0]
    if not -len(cells) <= wanted < len(cells):
        raise InvalidData(
            f"{place}: no column {wanted} for inputs, target or weight: there are "
            f"{len(cells)}, 0 to {len(cells) - 1}"
        )
    return wanted % len(cells)


def _check_roles(place: str, choice: ColumnChoice, positions: list[int]) -> None:
    """Raise InvalidData where one column is asked for twice."""
    if len(set(positions)) == len(positions):
        return
    again = next(p for p, count in Counter(positions).items() if count > 1)
    asked = [w for w, p in zip(choice.wanted, positions, strict=True) if p == again]
    raise InvalidData(
        f"{place}: one column cannot be both: {' and '.join(map(repr, asked))} are the same "
        "column; name each column once in inputs, targets and weight"
    )


def _verdict(place: str, cells: list[str], inputs: list[int], choice: ColumnChoice) -> Verdict:
    """Return whether line 1 is a header; raises InvalidData if its cells do not decide."""
    if not choice.is_guessed:
        return "sample" if choice.header == "no" else "header"
    verdict = judge(cells, inputs) if inputs else "header"
    if verdict is None and cells == ["0"]:
        raise InvalidData(
            f"{place}: 0 could be the number of the column or a sample; {choice.say_which}"
        )
    if verdict is None:
        raise InvalidData(
            f"{place}: is this a header or a sample? None of its inputs is a number or looks "
            f"like a name: {_listed([cells[p] for p in inputs])}"
            f"{delimiter_hint(cells, choice)}; repair the cells, or "
            f"{choice.say_which}"
        )
    return verdict


def _leave_index_out(place: str, columns: Columns, choice: ColumnChoice) -> None:
    """Leave out a nameless first column; raises InvalidData for any other nameless input."""
    nameless = [p for p in columns.inputs if is_nameless(columns.names[p])]
    if nameless and nameless[0] == 0 and len(columns.inputs) > 1:
        columns.index = True
        columns.inputs = columns.inputs[1:]
        nameless = nameless[1:]
    if nameless:
        raise InvalidData(
            f"{place}: column {nameless[0]} (counted from 0) has no name; name it, or "
            f"{inputs_remedy(columns, choice)}"
        )


def inputs_remedy(columns: Columns, choice: ColumnChoice) -> str:
    """Return how the user leaves out columns without a name."""
    if not choice.can_choose:
        return "leave it out of the file"
    named = [name for name in columns.input_names if not is_nameless(name)]
    return f"choose the inputs: {inputs_option(named)}"


def _check_unique(place: str, columns: Columns, choice: ColumnChoice) -> None:
    """Raise InvalidData where two columns that are read have one name."""
    seen: dict[str, int] = {}
    for position in sorted([*columns.apart, *columns.inputs]):
        name = columns.names[position]
        if name and name in seen:
            raise InvalidData(
                f"{place}: columns {seen[name]} and {position} (counted from 0) are both "
                f"named {quoted(name)}; names must be unique: rename one, or "
                + (
                    "choose other columns by position: inputs = [0, ...]"
                    if choice.can_choose
                    else "leave one out of the file"
                )
            )
        seen[name] = position


def delimiter_option(delimiter: str) -> str:
    """Return the option of a command for a delimiter."""
    return "--delimiter '\\t'" if delimiter == "\t" else f"--delimiter '{delimiter}'"


def likely_delimiter(cells: Sequence[str], delimiter: str) -> str:
    """Return the character that divides a line of one cell, "" if none is likely."""
    cell = cells[0].strip()
    if len(cells) > 1 or is_comment(cells):
        return ""
    found = max(_DELIMITERS.replace(delimiter, ""), key=cell.count)
    return found if found in cell else ""


COMMENT_REMEDY: Final = "is line 1 a comment? Remove it: comments are not skipped"


def is_comment(cells: Sequence[str]) -> bool:
    """Return whether a line of one cell looks like a comment, which no reader skips."""
    return len(cells) == 1 and cells[0].lstrip().startswith("#")


def delimiter_hint(cells: Sequence[str], choice: ColumnChoice) -> str:
    """Return a hint for a line of one cell: a comment, or divided by another delimiter."""
    if is_comment(cells):
        return f", separated by {choice.delimiter!r}; {COMMENT_REMEDY}"
    found = likely_delimiter(cells, choice.delimiter)
    if not found or hides_contents():
        return ""
    remedy = choice.say_delimiter(found)
    return f", separated by {choice.delimiter!r}; is the delimiter another one ({remedy})?"


def width_hint(row: Sequence[str], columns: Columns, *, is_first: bool) -> str:
    """Return a hint for a sample with more cells than line 1; ``is_first``: of the samples."""
    if not columns.names or not is_first:
        return ""
    if is_comment(columns.names):
        return f"; {COMMENT_REMEDY}"
    if len(row) != columns.count + 1:
        return ""
    if not row[-1].strip():
        return "; the line ends with a delimiter, the first one does not"
    return (
        "; if these are R's row names, which have no name in the header: write the file with "
        "row.names = FALSE"
    )


def _listed(cells: Sequence[str]) -> str:
    if hides_contents():
        return _count(len(cells))
    return ", ".join(_quoted(cells)) + (", ..." if len(cells) > LISTED else "")


def _quoted(cells: Sequence[str]) -> Iterator[str]:
    return (repr(cut(cell, SHOWN)) for cell in cells[:LISTED])


def _count(columns: int) -> str:
    return "one column" if columns == 1 else f"{columns} columns"
