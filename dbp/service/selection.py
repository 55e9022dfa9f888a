"""Some tensors of a stored version, or all in another dtype, as a safetensors file.

The file is derived once, without a name on the disk. Reading blocks: it belongs into a
thread.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.control.version_file import OpenVersion
from dbp.errors import CorruptParameters, TensorNotFound
from dbp.job.snapshot import Manifest, TensorInfo, encode_header, select
from dbp.service.wire_cast import DTYPES, cast_bytes

BLOCK_BYTES: Final = 1 << 20
NEAREST: Final = 5


@dataclass(frozen=True)
class Derived:
    """A safetensors file held open by its descriptor, which belongs to whoever has this."""

    descriptor: int
    size: int
    digest: str
    manifest: Manifest


def selected(stored: Manifest, patterns: Sequence[str], cast: str = "") -> Manifest:
    """What a selection holds; shell patterns of names, all if none.

    TensorNotFound where a pattern matches nothing.
    """
    _check_patterns(stored, patterns)
    manifest = select(stored, patterns)
    if not cast:
        return manifest
    tensors, offset = [], 0
    for tensor in manifest.tensors:
        dtype = cast if tensor.dtype in DTYPES else tensor.dtype
        info = TensorInfo(tensor.name, dtype, tensor.shape, offset)
        tensors.append(info)
        offset += info.size_bytes
    return Manifest(tuple(tensors), {**manifest.metadata, "dbp.cast": cast})


def derive(opened: OpenVersion, manifest: Manifest) -> Derived:
    """The file of a selection; the version's own where nothing is left out or changed.

    CorruptParameters: the version was cut short; InvalidInput: a value cannot be cast.
    """
    if manifest == opened.manifest:
        descriptor = os.dup(opened.file.fileno())
        version = opened.version
        return Derived(descriptor, version.size_bytes, version.digest, manifest)
    descriptor = _unnamed(opened.path.parent)
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(os.dup(descriptor), "wb", buffering=0) as file:
            for block in _blocks(opened, manifest):
                digest.update(block)
                view = memoryview(block)
                while view:
                    view = view[file.write(view) :]
                size += len(block)
    except BaseException:
        os.close(descriptor)
        raise
    return Derived(descriptor, size, digest.hexdigest(), manifest)


def _blocks(opened: OpenVersion, manifest: Manifest) -> Iterator[bytes]:
    yield encode_header(manifest)
    stored = {tensor.name: tensor for tensor in opened.manifest.tensors}
    for tensor in manifest.tensors:
        source = stored[tensor.name]
        start = opened.data_offset + source.offset
        for offset in range(0, source.size_bytes, BLOCK_BYTES):
            length = min(BLOCK_BYTES, source.size_bytes - offset)
            data = opened.read(start + offset, length)
            if len(data) < length:
                raise cut_short(opened)
            if tensor.dtype != source.dtype:
                data = cast_bytes(data, source.dtype, tensor.dtype, tensor.name)
            yield data


def cut_short(opened: OpenVersion) -> CorruptParameters:
    """The error for a file that is shorter than it was."""
    return CorruptParameters(
        f"job {opened.job_id}: version {opened.version.version} was cut short while read",
        job=opened.job_id,
        version=opened.version.version,
    )


def _unnamed(folder: Path) -> int:
    """A file that is gone when it is closed."""
    with tempfile.TemporaryFile(dir=folder, prefix=".derived-") as file:
        return os.dup(file.fileno())


def _check_patterns(stored: Manifest, patterns: Sequence[str]) -> None:
    names = [tensor.name for tensor in stored.tensors]
    for pattern in patterns:
        if not select(stored, [pattern]).tensors:
            close = difflib.get_close_matches(pattern[:64], names, n=NEAREST, cutoff=0.0)
            raise TensorNotFound(
                f"tensors: {pattern[:64]!r} matches none; nearest: {', '.join(close)}",
                job=stored.metadata.get("dbp.job", ""),
                version=stored.metadata.get("dbp.version", ""),
                nearest=", ".join(close),
            )
