"""The ``digits`` reader: 1,797 real handwritten digits that are part of dbp."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, final

import numpy as np

from dbp.data.array_dataset import ArrayDataset
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.idx import open_rows
from dbp.data.rows import MemoryRows, Rows
from dbp.data_access import using
from dbp.registry import option

_FOLDER = Path(__file__).with_name("embedded")

# Neighbours in the file are often by the same writer, so a fifth is taken in even steps.
_TEST_EVERY = 5


@final
@dataclass(frozen=True)
class Digits(Reader):
    """1,797 handwritten digits of 8 x 8 pixels, 0 to 16 (UCI; Alpaydin and Kaynak, 1998)."""

    part: Literal["train", "test", "all"] = option(
        "train", doc="train: 1,437 samples; test: the other 360, a fixed fifth; all: both"
    )

    def inspect(self) -> DataInfo:
        return _info(self)

    def open(self) -> Dataset:
        return ArrayDataset(
            self._rows("digits-images-idx3-ubyte.gz"),
            self._rows("digits-labels-idx1-ubyte.gz"),
            class_names=tuple("0123456789"),
            input_maximum=16.0,
        )

    def _rows(self, name: str) -> Rows:
        rows = _stored(name)
        number = np.arange(rows.info.shape[0])
        held_out = number % _TEST_EVERY == 0
        chosen = {"train": ~held_out, "test": held_out, "all": number >= 0}[self.part]
        return MemoryRows(name, rows.block(0, len(number))[chosen])


@cache
def _info(reader: Digits) -> DataInfo:
    return reader.open().info


@cache
def _stored(name: str) -> Rows:
    """Return all rows of a file; 115 kB in all. Its copies are handed out."""
    with using(None):  # a file of dbp's own, not of the job
        return open_rows(str(_FOLDER / name))
