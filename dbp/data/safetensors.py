"""The ``safetensors`` reader: inputs and targets as two tensors of one file.

Large tensors are read row by row, on demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.data.array_dataset import TARGET_KIND_DOC, TargetKind
from dbp.data.array_names import INPUTS, TARGETS
from dbp.data.array_pair import open_pair, pair_info
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.file import DataFile
from dbp.data.layout import LAYOUT_DOC, TARGETS_LAYOUT_DOC, TargetsLayout, check_layout
from dbp.data.many_files import inspect_files, open_files
from dbp.data.rows import Rows, RowsInfo, file_rows, native
from dbp.data.safetensors_format import Header
from dbp.registry import option


@final
@dataclass(frozen=True)
class Safetensors(Reader):
    """Two tensors of one .safetensors file; large ones are read row by row, on demand."""

    path: str = option(doc="the file, or a pattern: part-*.safetensors", file=True)
    inputs: str = option(INPUTS, doc="name of the tensor of inputs")
    targets: str = option(TARGETS, doc="name of the tensor of targets")
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    weights: str | None = option(None, doc="name of the tensor of one weight per sample")
    layout: str | None = option(None, doc=LAYOUT_DOC)
    targets_layout: TargetsLayout | None = option(None, doc=TARGETS_LAYOUT_DOC)

    def __post_init__(self) -> None:
        check_layout(self.layout)

    def inspect(self) -> DataInfo:
        return inspect_files(self, Safetensors._inspect, kind="safetensors")

    def open(self) -> Dataset:
        """Check the file; large tensors stay on disk."""
        return open_files(self, Safetensors._open, kind="safetensors")

    def _inspect(self) -> DataInfo:
        return self._combine(Header(DataFile(self.path)))

    def _open(self, limit: int) -> Dataset:
        file = DataFile(self.path)
        header = Header(file)
        self._combine(header)
        weights = self.weights
        return open_pair(
            self,
            lambda: _rows(file, header, self.inputs, limit),
            lambda: _rows(file, header, self.targets, limit),
            None if weights is None else lambda: _rows(file, header, weights, limit),
        )

    def _combine(self, header: Header) -> DataInfo:
        return pair_info(
            self,
            self._info(header, self.inputs),
            self._info(header, self.targets),
            None if self.weights is None else self._info(header, self.weights),
        )

    def _info(self, header: Header, name: str) -> RowsInfo:
        tensor = header.tensor(name)
        return RowsInfo(f"{self.path}[{name}]", tensor.shape, native(tensor.stored))


def _rows(file: DataFile, header: Header, name: str, limit: int) -> Rows:
    tensor = header.tensor(name)
    return file_rows(file, tensor.offset, tensor.shape, tensor.stored, limit, name=name)
