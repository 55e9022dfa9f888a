"""The ``npy`` reader: inputs and targets as two numpy files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.data.array_dataset import TARGET_KIND_DOC, TargetKind
from dbp.data.array_pair import open_pair, pair_info
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.layout import LAYOUT_DOC, TARGETS_LAYOUT_DOC, TargetsLayout, check_layout
from dbp.data.many_files import inspect_files, open_files
from dbp.data.npy_format import inspect_rows, open_rows
from dbp.registry import option


@final
@dataclass(frozen=True)
class NPY(Reader):
    """Two .npy files (or two patterns); large ones are read row by row, on demand."""

    inputs: str = option(doc="file of the inputs", file=True)
    targets: str = option(doc="file of the targets", file=True)
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    weights: str | None = option(None, doc="file of one weight per sample", file=True)
    layout: str | None = option(None, doc=LAYOUT_DOC)
    targets_layout: TargetsLayout | None = option(None, doc=TARGETS_LAYOUT_DOC)

    def __post_init__(self) -> None:
        check_layout(self.layout)

    def inspect(self) -> DataInfo:
        return inspect_files(self, NPY._inspect, kind="npy")

    def open(self) -> Dataset:
        """Check the files; large ones stay on disk."""
        return open_files(self, NPY._open, kind="npy")

    def _inspect(self) -> DataInfo:
        return pair_info(
            self,
            inspect_rows(self.inputs),
            inspect_rows(self.targets),
            None if self.weights is None else inspect_rows(self.weights),
        )

    def _open(self, limit: int) -> Dataset:
        self._inspect()
        weights = self.weights
        return open_pair(
            self,
            lambda: open_rows(self.inputs, limit),
            lambda: open_rows(self.targets, limit),
            None if weights is None else lambda: open_rows(weights, limit),
        )
