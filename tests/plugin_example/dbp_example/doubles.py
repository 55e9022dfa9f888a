"""A reader of a file: rows of little-endian doubles, the last of each row the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.plugin import DataFile, DataInfo, Dataset, InvalidData, Reader, arrays, option


@final
@dataclass(frozen=True)
class Doubles(Reader):
    """A file of 64-bit floats without a header: ``columns`` a row."""

    path: str = option(doc="the file", file=True)
    columns: int = option(doc="numbers of a row, the target among them", minimum=2)

    def inspect(self) -> DataInfo:
        """Known from the file's size."""
        return DataInfo(
            samples=self._rows(DataFile(self.path)),
            input_shape=(self.columns - 1,),
            input_dtype=np.dtype(np.float64),
            target_shape=(1,),
            target_kind="values",
        )

    def open(self) -> Dataset:
        """Read all rows; opened by DataFile, so within the folders that the job may read."""
        file = DataFile(self.path)
        table = np.empty((self._rows(file), self.columns), "<f8")
        file.read_into(table, 0)
        return arrays(table[:, :-1], table[:, -1:], target_kind="values")

    def _rows(self, file: DataFile) -> int:
        rows, rest = divmod(file.size, 8 * self.columns)
        if rest:
            raise InvalidData(
                f"{file.name}: {file.size:,} bytes are no rows of {self.columns} doubles; "
                "check columns"
            )
        return rows
