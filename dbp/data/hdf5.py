"""The ``hdf5`` reader: inputs and targets as two data sets of one file.

Large data sets are read row by row, on demand; ``hdf5_file`` reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from dbp.data.array_dataset import TARGET_KIND_DOC, TargetKind
from dbp.data.array_names import INPUTS, TARGETS
from dbp.data.array_pair import open_pair, pair_info
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.hdf5_file import HDF5File, open_rows
from dbp.data.layout import (
    LAYOUT_DOC,
    TARGETS_LAYOUT_DOC,
    TargetsLayout,
    check_layout,
    matlab_notes,
)
from dbp.data.many_files import inspect_files, open_files
from dbp.registry import option


@final
@dataclass(frozen=True)
class HDF5(Reader):
    """Two data sets of one HDF5 file; needs h5py: pip install 'dbp[hdf5]'."""

    can_crash: ClassVar[bool] = True

    path: str = option(doc="the file, or a pattern: part-*.h5", file=True)
    inputs: str = option(INPUTS, doc="name of the data set of inputs; groups: a/b")
    targets: str = option(TARGETS, doc="name of the data set of targets")
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    weights: str | None = option(None, doc="name of the data set of one weight per sample")
    layout: str | None = option(None, doc=LAYOUT_DOC)
    targets_layout: TargetsLayout | None = option(None, doc=TARGETS_LAYOUT_DOC)

    def __post_init__(self) -> None:
        check_layout(self.layout)

    def inspect(self) -> DataInfo:
        return inspect_files(self, HDF5._inspect, kind="hdf5")

    def open(self) -> Dataset:
        """Check the file; large data sets stay on disk."""
        return open_files(self, HDF5._open, kind="hdf5")

    def _inspect(self) -> DataInfo:
        return self._combine(HDF5File(self.path))

    def _open(self, limit: int) -> Dataset:
        file = HDF5File(self.path)
        self._combine(file)
        weights = self.weights
        return open_pair(
            self,
            lambda: open_rows(file, self.inputs, limit),
            lambda: open_rows(file, self.targets, limit),
            None if weights is None else lambda: open_rows(file, weights, limit),
            notes=self._matlab_notes(file),
        )

    def _combine(self, file: HDF5File) -> DataInfo:
        return pair_info(
            self,
            file.info(self.inputs),
            file.info(self.targets),
            None if self.weights is None else file.info(self.weights),
            notes=self._matlab_notes(file),
        )

    def _matlab_notes(self, file: HDF5File) -> tuple[str, ...]:
        """Return a note that axes are reversed, if their sizes do not show it."""
        if self.layout not in (None, "NHW") or not file.is_from_matlab(self.inputs):
            return ()
        return matlab_notes(self.inputs, file.info(self.inputs).shape)
