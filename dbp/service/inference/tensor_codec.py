"""Convert tensors of the inference protocol to arrays and back: raw and typed contents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidInput, nearest
from dbp.inference import open_inference_pb2 as pb
from dbp.quantities import count_text

Array = npt.NDArray[Any]

# What inputs may be; all little-endian.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
}

# The field of typed contents; FP16 and BF16 have none.
_FIELDS: Final = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
}


def decoded(
    tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, row_shape: Sequence[int]
) -> Array:
    """Return an input as an array of its datatype, shape (rows, *row_shape); read-only if raw.

    ``raw``: its raw contents; None: they are typed. InvalidInput: contents that do not fit.
    """
    name = tensor.name
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise InvalidInput(_unknown_datatype(name, tensor.datatype))
    shape = tuple(tensor.shape)
    if len(shape) != 1 + len(row_shape) or shape[1:] != tuple(row_shape) or shape[0] < 0:
        raise InvalidInput(
            f"{name}: shape must be {shape_text(row_shape)}, got {list(shape)[:16]}"
        )
    size = math.prod(shape)
    if raw is None:
        return _typed(tensor, dtype, size).reshape(shape)
    if len(raw) != size * dtype.itemsize:
        raise InvalidInput(
            f"{name}: {tensor.datatype} {list(shape)} takes "
            f"{count_text(size * dtype.itemsize, 'byte')} of raw contents, got {len(raw)}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def encoded_texts(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Encode each text as an element of a BYTES tensor: length in four bytes, then UTF-8."""
    contents = [text.encode("utf-8", "backslashreplace") for text in texts]
    return tuple(len(content).to_bytes(4, "little") + content for content in contents)


def shape_text(row_shape: Sequence[int]) -> str:
    """Return the shape of any number of rows, as in ``[-1, 28, 28]``."""
    return str([-1, *row_shape])


def _typed(
    tensor: pb.ModelInferRequest.InferInputTensor, dtype: np.dtype[Any], size: int
) -> Array:
    name, datatype = tensor.name, tensor.datatype
    field = _FIELDS.get(datatype)
    if field is None:
        raise InvalidInput(
            f"{name}: the protocol has no typed contents for {datatype}: send raw contents"
        )
    for other, values in tensor.contents.ListFields():
        if other.name != field:
            raise InvalidInput(
                f"{name}: {datatype} belongs into contents.{field}, "
                f"got {count_text(len(values), 'value')} in contents.{other.name}"
            )
    values = getattr(tensor.contents, field)
    if len(values) != size:
        raise InvalidInput(
            f"{name}: {datatype} {list(tensor.shape)} takes {count_text(size, 'value')} in "
            f"contents.{field}, got {len(values)}"
        )
    if dtype.kind == "f":
        return np.array(values, dtype)
    wide = np.array(values, np.uint64 if dtype.kind == "u" else np.int64)
    bounds = np.iinfo(dtype)
    if size and not (wide.min() >= bounds.min and wide.max() <= bounds.max):
        raise InvalidInput(
            f"{name}: values must be {bounds.min} to {bounds.max} for {datatype}, "
            f"got {wide.min()} to {wide.max()}"
        )
    return wide.astype(dtype)


def _unknown_datatype(name: str, datatype: str) -> str:
    hint = nearest(datatype, list(DTYPES)) or ";"
    return (
        f"{name}: datatype must be of numbers, got {datatype[:64]!r}{hint} "
        f"known: {', '.join(DTYPES)}"
    )
