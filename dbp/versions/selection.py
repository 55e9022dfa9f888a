"""Derive a safetensors file from a version: some of its tensors, or another dtype.

The file is derived once, as an unnamed file, from bytes that are verified while they are read:
damaged bytes never get a matching digest. Reading blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from dbp.errors import InvalidInput
from dbp.job.snapshot import Manifest, TensorInfo, encode_header
from dbp.job.state import Version
from dbp.versions.cast import DTYPES, cast_bytes
from dbp.versions.faults import corrupt, unreadable
from dbp.versions.file import OpenVersion
from dbp.versions.tensor_patterns import matching, work_of

BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Selection:
    """A selection of a version: manifest and length of its file.

    ``whole``: the version's own file, complete and unchanged.
    """

    manifest: Manifest
    size: int
    cast: str
    whole: bool


def selected(
    version: Version, stored: Manifest, patterns: Sequence[str], cast: str = ""
) -> Selection:
    """Return the selection of the tensors that any pattern matches; all without patterns.

    TensorNotFound where a pattern matches nothing.
    """
    names = matching(stored, patterns) if patterns else None
    if not cast and (names is None or len(names) == len(stored.tensors)):
        return Selection(stored, version.size_bytes, "", True)
    tensors, offset = [], 0
    for tensor in stored.tensors:
        if names is None or tensor.name in names:
            dtype = cast if cast and tensor.dtype in DTYPES else tensor.dtype
            info = TensorInfo(tensor.name, dtype, tensor.shape, offset)
            tensors.append(info)
            offset += info.size_bytes
    metadata = {**stored.metadata, "dbp.cast": cast} if cast else stored.metadata
    manifest = Manifest(tuple(tensors), metadata)
    return Selection(manifest, len(encode_header(manifest)) + offset, cast, False)


def selecting_work(stored: Manifest, patterns: Sequence[str], cast: str = "") -> int:
    """Return how much work ``selected`` is, in names matched."""
    return work_of(stored, patterns) + (len(stored.tensors) if patterns or cast else 0)


def derive(opened: OpenVersion, selection: Selection) -> OpenVersion:
    """Return the file of a selection, which the caller closes.

    CorruptParameters: the version is damaged; InvalidInput: a value cannot be cast;
    ResourceExhausted: the disk is full, and the like.
    """
    if selection.whole:
        return opened.duplicate()
    try:
        file = _unnamed(opened.path.parent)
        try:
            digest = _write(file, opened, selection.manifest)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise unreadable(opened.job_id, opened.version.version, error) from error
    return replace(
        opened,
        version=replace(opened.version, digest=digest, size_bytes=selection.size),
        manifest=selection.manifest,
        data_offset=selection.size - selection.manifest.size_bytes,
        file=file,
    )


def _write(file: BinaryIO, opened: OpenVersion, manifest: Manifest) -> str:
    """Write the file and read the version to its end; return the file's digest."""
    stored, written = hashlib.sha256(), hashlib.sha256()
    wanted = {tensor.name: tensor for tensor in manifest.tensors}
    refused: InvalidInput | None = None
    _add(file, written, encode_header(manifest))
    for block in _blocks(opened, 0, opened.data_offset):
        stored.update(block)
    for source in opened.manifest.tensors:  # in the order of their bytes
        tensor = wanted.get(source.name)
        for block in _blocks(opened, opened.data_offset + source.offset, source.size_bytes):
            stored.update(block)
            if tensor is None or refused is not None:
                continue
            try:
                cast = tensor.dtype != source.dtype
                _add(file, written, _cast(block, source, tensor) if cast else block)
            except InvalidInput as error:
                refused = error  # unless the value turns out to be damage
    if stored.hexdigest() != opened.version.digest:
        text = "its bytes do not match their digest"
        raise corrupt(opened.job_id, opened.version.version, text)
    if refused is not None:
        raise refused
    return written.hexdigest()


def _blocks(opened: OpenVersion, start: int, length: int) -> Iterator[bytes]:
    for offset in range(0, length, BLOCK_BYTES):
        size = min(BLOCK_BYTES, length - offset)
        yield opened.read_exactly(start + offset, size)


def _cast(block: bytes, source: TensorInfo, tensor: TensorInfo) -> bytes:
    return cast_bytes(block, source.dtype, tensor.dtype, tensor.name)


def _add(file: BinaryIO, digest: hashlib._Hash, block: bytes) -> None:
    digest.update(block)
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _unnamed(folder: Path) -> BinaryIO:
    """Return a file that is deleted when it is closed."""
    with tempfile.TemporaryFile(dir=folder, prefix=".derived-") as file:
        return os.fdopen(os.dup(file.fileno()), "w+b", buffering=0)
