"""The ``npy`` reader: inputs and targets as two numpy files. The format is npy_format's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.data.array_dataset import TARGET_KIND_DOC, ArrayDataset, TargetKind, combine
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.npy_format import inspect_rows, open_rows
from dbp.registry import option


@final
@dataclass(frozen=True)
class NPY(Reader):
    """Two .npy files; large ones are read row by row, as asked for."""

    inputs: str = option(doc="file of the inputs, samples first", file=True)
    targets: str = option(doc="file of the targets", file=True)
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    weights: str | None = option(None, doc="file of one weight per sample", file=True)

    def inspect(self) -> DataInfo:
        """Read the headers of both files."""
        return combine(
            inspect_rows(self.inputs),
            inspect_rows(self.targets),
            self.target_kind,
            weights=None if self.weights is None else inspect_rows(self.weights),
        )

    def open(self) -> Dataset:
        """Check both files; large ones stay on disk."""
        self.inspect()
        return ArrayDataset(
            open_rows(self.inputs),
            open_rows(self.targets),
            target_kind=self.target_kind,
            weights=None if self.weights is None else open_rows(self.weights),
        )
