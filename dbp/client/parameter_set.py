"""Parameters as arrays over one buffer, with their version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dbp.errors import DataLoss, alternatives
from dbp.job.snapshot import decode_header, header_length
from dbp.job.state import Version
from dbp.quantities import count_text

Array = npt.NDArray[Any]

NUMPY_DTYPES: Final[Mapping[str, npt.DTypeLike]] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16,
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


@final
@dataclass(frozen=True, eq=False, repr=False)
class ParameterSet(Mapping[str, Array]):
    """The named tensors of one version: a read-only mapping from names to arrays.

    ``content`` is the safetensors file whose bytes the arrays are views of, so they cannot be
    written to; ``copy`` returns arrays that can. Two sets are equal if they have the same
    names and their arrays the same types, shapes and bits, whatever their versions. Sets can be
    pickled.
    """

    version: Version
    metadata: Mapping[str, str]
    tensors: Mapping[str, Array]
    content: memoryview

    def __getitem__(self, name: str) -> Array:
        if name not in self.tensors:
            known = alternatives(str(name), list(self.tensors), "tensors")
            raise KeyError(f"{name}{known}")
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(
            _same_bits(array, other[name]) for name, array in self.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        number, step = self.version.version, self.version.step
        return (
            f"<ParameterSet: version {number}, step {step}, {count_text(len(self), 'tensor')}>"
        )

    def __reduce__(
        self,
    ) -> tuple[Callable[[Version, bytes], ParameterSet], tuple[Version, bytes]]:
        return _from_bytes, (self.version, bytes(self.content))

    def copy(self) -> dict[str, Array]:
        """Return writable copies of the arrays, by name."""
        return {name: array.copy() for name, array in self.items()}


def parameter_set(version: Version, content: memoryview) -> ParameterSet:
    """Return views of the tensors in a safetensors file, uncopied. DataLoss, InvalidFile."""
    source = f"version {version.version}"
    length = header_length(bytes(content[:8]), source)
    manifest = decode_header(bytes(content[8 : 8 + length]), source)
    content = content.toreadonly()
    data = content[8 + length :]
    if len(data) != manifest.size_bytes:
        raise DataLoss(
            f"{source}: {count_text(len(data), 'byte')} came, the header says "
            f"{manifest.size_bytes:,}"
        )
    tensors = {
        tensor.name: np.frombuffer(
            data[tensor.offset : tensor.offset + tensor.size_bytes], NUMPY_DTYPES[tensor.dtype]
        ).reshape(tensor.shape)
        for tensor in manifest.tensors
        if tensor.dtype in NUMPY_DTYPES
    }
    return ParameterSet(version, manifest.metadata, MappingProxyType(tensors), content)


def _from_bytes(version: Version, content: bytes) -> ParameterSet:
    return parameter_set(version, memoryview(content))


def _same_bits(one: Array, other: object) -> bool:
    if not isinstance(other, np.ndarray):
        return False
    same_form = one.dtype == other.dtype and one.shape == other.shape
    return same_form and one.tobytes() == other.tobytes()
