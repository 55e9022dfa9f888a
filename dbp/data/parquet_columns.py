"""Choose the columns of a Parquet file by its schema: their types, and which are inputs.

pandas writes its index as columns and names them in the schema's metadata:
https://pandas.pydata.org/docs/development/developer.html#storing-pandas-dataframe-objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from dbp.column_names import normalized_name
from dbp.data.column_notes import LISTED, inputs_option, nameless_index_note
from dbp.data.csv_header import is_nameless
from dbp.data.quoting import hint, listed, quoted
from dbp.data_access import hides_contents
from dbp.errors import InvalidData, nearest

# Arrow's names of types.
NUMBERS: Final = {
    "bool": "?", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8", "uint8": "u1",
    "uint16": "u2", "uint32": "u4", "uint64": "u8", "halffloat": "f2", "float": "f4",
    "double": "f8",
}  # fmt: skip
DECIMAL: Final = "decimal"
TEXT: Final = "text"
_EXTENSION: Final = b"ARROW:extension:name"
_TEXTS: Final = ("string", "large_string", "string_view")

# pandas' own names of index columns without a name; other programs drop the metadata.
_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class InputColumns:
    """The inputs by name, in their order; ``notes``: decisions that the user should know of.

    ``counted``: a nameless column that was left out and must therefore count the rows.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    counted: str | None = None


@final
class Schema:
    """Names and types of the columns, and which of them are a pandas index."""

    def __init__(
        self,
        place: str,
        fields: Sequence[Any],
        metadata: Mapping[bytes, bytes] | None,
        *,
        can_choose: bool = True,
    ) -> None:
        """``fields``: Arrow's; ``place``: the file; ``can_choose``: as in ParquetTable."""
        self._place = place
        self._can_choose = can_choose
        self.columns: Final = [
            (normalized_name(str(field.name)), _type_name(field)) for field in fields
        ]
        self._stored = {normalized_name(str(field.name)): str(field.name) for field in fields}
        self._kinds: dict[str, list[str]] = {}
        for name, kind in self.columns:
            self._kinds.setdefault(name, []).append(kind)
        self._metadata = (metadata or {}).get(b"pandas")

    def type_of(self, column: str) -> str:
        """Return Arrow's name of a column's type, ``text`` for all texts; InvalidData."""
        found = self._kinds.get(normalized_name(column), [])
        if len(found) != 1:
            names = [name for name, _ in self.columns]
            near = hint(nearest(column, names)) if not found else ""
            held = listed(names, LISTED, "column")
            raise InvalidData(
                f"{self._place}: {len(found) or 'no'} columns named {column!r}, "
                f"expected one{near}; it holds: {held}"
            )
        return found[0]

    def shown(self, columns: Sequence[str]) -> str:
        """Return a column or two for messages: by name, in those of a job by position."""
        more = ", ..." if len(columns) > 2 else ""
        if hides_contents():
            names = [name for name, _ in self.columns]
            columns = [f"column {names.index(normalized_name(name))}" for name in columns]
        return f"{', '.join(columns[:2])}{more}"

    def texts(self) -> list[str]:
        """Return the columns of text, as the file spells them."""
        return [self._stored[name] for name, kind in self.columns if kind == TEXT]

    def stored_name(self, column: str) -> str:
        """Return the name of a column as the file spells it."""
        return self._stored[normalized_name(column)]

    def number_type(self, column: str) -> str:
        """Return the numpy type of a column of numbers, decimals as float64; raises
        InvalidData.
        """
        kind = self.type_of(column)
        found = number_type(kind)
        if found is None:
            raise InvalidData(
                f"{self._place}[{column}]: is of type {kind}, expected numbers: "
                f"{', '.join(NUMBERS)}, {DECIMAL}"
            )
        return found

    def names_beside(self, apart: Sequence[str], wanted: Sequence[str]) -> list[str]:
        """Return the wanted columns, and those that are neither in ``apart`` nor an index.

        A nameless first column counts as an index.
        """
        left_out = {*map(normalized_name, apart), *self._index_columns()}
        if is_nameless(self.columns[0][0]):
            left_out.add(self.columns[0][0])
        left_out.difference_update(wanted)
        return [name for name, _ in self.columns if name not in left_out]

    def inputs(self, apart: Sequence[str], empty: Collection[str] = ()) -> InputColumns:
        """Return all columns but those apart and the index of a pandas DataFrame.

        ``empty``: columns known to hold nulls only. Raises InvalidData naming them, and the
        columns that are no numbers.
        """
        apart = tuple(map(normalized_name, apart))
        empty = set(map(normalized_name, empty))
        index = [name for name in self._index_columns() if name not in apart]
        columns = [(n, kind) for n, kind in self.columns if n not in index and n not in apart]
        filled = [(n, kind) for n, kind in columns if n not in empty]
        numbers = [n for n, kind in filled if number_type(kind) and not is_nameless(n)]
        others = [f"{n!r} is of type {kind}" for n, kind in filled if not number_type(kind)]
        others += [f"{n!r} holds nulls only" for n, _ in columns if n in empty]
        shown = ", ".join(others[:LISTED]) + (", ..." if len(others) > LISTED else "")
        if hides_contents() and others:
            shown = listed(others, LISTED, "other column")
        if not numbers:
            raise InvalidData(
                f"{self._place}: no columns of numbers beside {', '.join(apart)}"
                + (f": {shown}" if shown else "")
            )
        remedy = "leave it out of the file"
        if self._can_choose:
            remedy = f"choose the inputs: {inputs_option(numbers)}"
        if others:
            raise InvalidData(f"{self._place}: inputs must be numbers: {shown}; {remedy}")
        notes = [
            f"column {name!r} is the index of a pandas DataFrame and no input"
            + ("; to have it as one, name all inputs: inputs = [...]" * self._can_choose)
            for name in index
        ]
        counted = None
        if is_nameless(columns[0][0]):
            counted = columns[0][0]
            columns = columns[1:]
            notes.append(nameless_index_note(f"the first column, {counted!r},"))
        for name, _ in columns:
            if is_nameless(name):
                raise InvalidData(
                    f"{self._place}: column {quoted(name)} has no name of its own; {remedy}"
                )
            self.type_of(name)
        return InputColumns(tuple(name for name, _ in columns), tuple(notes), counted)

    def _index_columns(self) -> list[str]:
        """Return the columns that are a pandas index, in the order of the file."""
        named: list[Any] = []
        if self._metadata is not None:
            try:
                named = list(json.loads(self._metadata).get("index_columns", []))
            except (ValueError, AttributeError, TypeError) as error:
                raise InvalidData(
                    f"{self._place}: its pandas metadata, which names the index, cannot be "
                    f"read{hint(f' ({error})')}"
                    + ("; choose the inputs: inputs = [...]" * self._can_choose)
                ) from error
        # A RangeIndex is described by a table and is no column.
        known = {normalized_name(name) for name in named if isinstance(name, str)}
        return [name for name, _ in self.columns if name in known or _INDEX.fullmatch(name)]


def number_type(kind: str) -> str | None:
    """Return the numpy type for values of an Arrow type; None if they are no numbers."""
    return "f8" if kind.startswith(DECIMAL) else NUMBERS.get(kind)


def _type_name(field: Any) -> str:
    """Return the name of a field's type; of a dictionary of texts or numbers, that of its
    values.
    """
    extension = (field.metadata or {}).get(_EXTENSION)
    if extension is not None:  # days and the like, stored as numbers
        return f"extension<{extension.decode(errors='replace')}>"
    name = str(field.type)
    if name.startswith("dictionary<"):
        values = str(field.type.value_type)
        return TEXT if values in _TEXTS else values if number_type(values) else name
    return TEXT if name in _TEXTS else name
