"""Encode and decode safetensors headers. No numpy, no files.

A safetensors file is an 8-byte little-endian header length, a JSON header (each tensor's dtype,
shape and byte range, and string metadata), then the raw little-endian bytes. Format:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dbp.errors import InvalidFile
from dbp.json_value import JsonValue

MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 64  # as in numpy 2
# Metadata of parameters: how often their run has gone back to a checkpoint before this step.
ROLLBACKS = "dbp.rollbacks"
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its name, safetensors dtype, shape, and byte range in the data section."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        """Length of the tensor in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Manifest:
    """Content of a safetensors header: tensors in the order of their bytes, and metadata."""

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Length of the data section in bytes."""
        return sum(tensor.size_bytes for tensor in self.tensors)


def manifest_of(
    shapes: Mapping[str, Sequence[int]], dtype: str, metadata: Mapping[str, str]
) -> Manifest:
    """Return the manifest of tensors of one dtype, stored one after the other."""
    tensors: list[TensorInfo] = []
    offset = 0
    for name, shape in shapes.items():
        info = TensorInfo(name, dtype, tuple(shape), offset)
        tensors.append(info)
        offset += info.size_bytes
    return Manifest(tuple(tensors), dict(metadata))


def step_of(manifest: Manifest, otherwise: int) -> int:
    """Return the step in a file's metadata, or ``otherwise``."""
    text = manifest.metadata.get("dbp.step", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else otherwise


def encode_header(manifest: Manifest) -> bytes:
    """Return the bytes in front of the data section, padded with spaces to a multiple of 8."""
    table: dict[str, JsonValue] = {}
    if manifest.metadata:
        table["__metadata__"] = dict(manifest.metadata)
    for tensor in manifest.tensors:
        table[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [tensor.offset, tensor.offset + tensor.size_bytes],
        }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def header_length(prefix: bytes, source: str) -> int:
    """Return the length of the JSON header from a file's first 8 bytes; InvalidFile."""
    if len(prefix) < 8:
        raise InvalidFile(f"{source}: not a safetensors file: shorter than 8 bytes")
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidFile(
            f"{source}: not a safetensors file: header of {length} bytes, "
            f"at most {MAX_HEADER_BYTES} allowed"
        )
    return length


def decode_header(text: bytes, source: str) -> Manifest:
    """Decode the JSON header (without the 8-byte length); raises InvalidFile."""
    try:
        table: JsonValue = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
        if not isinstance(table, dict):
            raise ValueError("the header is no JSON object")
        metadata = _metadata(table.pop("__metadata__", {}))
        tensors = [_tensor(name, entry) for name, entry in table.items()]
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{source}: damaged safetensors header: {error}") from error
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.size_bytes))
    _check_layout(tensors, source)
    return Manifest(tuple(tensors), metadata)


def _metadata(table: JsonValue) -> dict[str, str]:
    if not isinstance(table, dict):
        raise ValueError("__metadata__ is no table of strings")
    metadata: dict[str, str] = {}
    for name, value in table.items():
        if not isinstance(value, str):
            raise ValueError("__metadata__ holds a value that is no string")
        value.encode()  # as for names
        metadata[name] = value
    return metadata


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    table: dict[str, JsonValue] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"{name[:64]!a} is there twice")
        name.encode()  # a lone surrogate is a ValueError here and could not be written again
        table[name] = value
    return table


def _tensor(name: str, entry: JsonValue) -> TensorInfo:
    """Decode one entry of the header; raises ValueError if it is malformed."""
    label = f"tensor {name[:64]!a}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{label} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = (
        entry["dtype"],
        _sizes(entry["shape"]),
        _sizes(entry["data_offsets"]),
    )
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{label} has a dtype other than {', '.join(ITEM_BYTES)}")
    if shape is None or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{label} has a shape that is no list of sizes")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{label} has data_offsets that are no range of bytes")
    begin, end = offsets
    info = TensorInfo(name, dtype, shape, begin)
    # Of an empty one the other sizes count as well: numpy, for one, multiplies them.
    if math.prod(size or 1 for size in shape) * ITEM_BYTES[dtype] >= 2**63:
        raise ValueError(f"{label} has a shape of 2**63 bytes or more")
    if end - begin != info.size_bytes:
        raise ValueError(f"{label} spans {end - begin} bytes, needs {info.size_bytes}")
    return info


def _sizes(value: JsonValue) -> tuple[int, ...] | None:
    """Return a list of sizes; None if it is none."""
    if not isinstance(value, list):
        return None
    sizes = tuple(n for n in value if type(n) is int and 0 <= n < 2**63)
    return sizes if len(sizes) == len(value) else None


def _check_layout(tensors: Iterable[TensorInfo], source: str) -> None:
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            raise InvalidFile(f"{source}: tensor {tensor.name!r} leaves a gap or overlaps")
        expected += tensor.size_bytes
