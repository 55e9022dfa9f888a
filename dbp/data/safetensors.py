"""The ``safetensors`` reader: inputs and targets as two tensors of one file.

The format is safetensors_format's. Large tensors are read row by row, as asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.data.array_dataset import TARGET_KIND_DOC, ArrayDataset, TargetKind, combine
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.file import DataFile
from dbp.data.rows import Rows, RowsInfo, file_rows, native
from dbp.data.safetensors_format import Header
from dbp.registry import option


@final
@dataclass(frozen=True)
class Safetensors(Reader):
    """Two tensors of one .safetensors file; large ones are read row by row, as asked for."""

    path: str = option(doc="the file", file=True)
    inputs: str = option("x", doc="name of the tensor of inputs, samples first")
    targets: str = option("y", doc="name of the tensor of targets")
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    weights: str | None = option(None, doc="name of the tensor of one weight per sample")

    def inspect(self) -> DataInfo:
        """Read the header."""
        return self._combine(Header(DataFile(self.path)))

    def open(self) -> Dataset:
        """Check the file; large tensors stay on disk."""
        file = DataFile(self.path)
        header = Header(file)
        self._combine(header)
        return ArrayDataset(
            _rows(file, header, self.inputs),
            _rows(file, header, self.targets),
            target_kind=self.target_kind,
            weights=None if self.weights is None else _rows(file, header, self.weights),
        )

    def _combine(self, header: Header) -> DataInfo:
        return combine(
            self._info(header, self.inputs),
            self._info(header, self.targets),
            self.target_kind,
            weights=None if self.weights is None else self._info(header, self.weights),
        )

    def _info(self, header: Header, name: str) -> RowsInfo:
        tensor = header.tensor(name)
        return RowsInfo(f"{self.path}[{name}]", tensor.shape, native(tensor.stored))


def _rows(file: DataFile, header: Header, name: str) -> Rows:
    tensor = header.tensor(name)
    return file_rows(file, tensor.offset, tensor.shape, tensor.stored, name=name)
