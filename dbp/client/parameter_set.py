"""Parameters as a client gets them: arrays over one buffer, and what version they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dbp.errors import DataLoss
from dbp.job.snapshot import decode_header, header_length
from dbp.job.state import Version

Array = npt.NDArray[Any]

NUMPY_DTYPES: Final[Mapping[str, Any]] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16,
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class ParameterSet:
    """Named tensors of one version; ``content`` is the safetensors file they are views of."""

    version: Version
    metadata: Mapping[str, str]
    tensors: Mapping[str, Array]
    content: memoryview

    def __getitem__(self, name: str) -> Array:
        return self.tensors[name]


def parameter_set(version: Version, content: memoryview) -> ParameterSet:
    """Views of the tensors in a safetensors file; nothing is copied. DataLoss, InvalidFile."""
    source = f"version {version.version}"
    length = header_length(bytes(content[:8]), source)
    manifest = decode_header(bytes(content[8 : 8 + length]), source)
    data = content[8 + length :]
    if len(data) != manifest.size_bytes:
        raise DataLoss(
            f"{source}: {len(data)} bytes came, the header says {manifest.size_bytes}"
        )
    tensors = {
        tensor.name: np.frombuffer(
            data[tensor.offset : tensor.offset + tensor.size_bytes], NUMPY_DTYPES[tensor.dtype]
        ).reshape(tensor.shape)
        for tensor in manifest.tensors
        if tensor.dtype in NUMPY_DTYPES
    }
    return ParameterSet(version, manifest.metadata, tensors, content)
