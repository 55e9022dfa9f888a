"""Write the files of one checkpoint folder with fsync; verify every byte when reading.

::

    parameters.safetensors  the parameters, as in a published version
    state.safetensors       vectors such as the optimizer's slots, by name
    position.json           step, metrics and state of decisions
    manifest.json           size and SHA-256 of each file above
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict, cast

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidFile
from dbp.job.snapshot import decode_header, header_length
from dbp.storage import checkpoints
from dbp.storage.atomic_file import sync_folder, write_new
from dbp.storage.checkpoints import FILES, MANIFEST, digest_of, json_object, read_file
from dbp.train.state.position import Facts, Position

POSITION: Final = FILES[2]

_TYPES: Final = {"F32": "<f4", "F64": "<f8"}

Vector = npt.NDArray[Any]
Part = bytes | memoryview


class FileEntry(TypedDict):
    """The entry of a file in a manifest."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """A manifest; ``sha256`` is the digest of the rest. Older versions wrote fewer keys."""

    format: int
    step: int
    spec_digest: NotRequired[str]
    arithmetic: NotRequired[str]
    facts: NotRequired[Facts]
    files: NotRequired[dict[str, FileEntry]]
    sha256: NotRequired[str]


def write_files(folder: Path, contents: Iterable[list[Part]], manifest: Manifest) -> None:
    """Write the files, then the manifest with their sizes and digests; fsync all.

    ``contents`` holds the parts of each file, in the order of FILES.
    """
    files: dict[str, FileEntry] = {}
    for name, parts in zip(FILES, contents, strict=True):
        files[name] = {"bytes": sum(map(len, parts)), "sha256": sha256_of_parts(parts)}
        write_new(folder / name, parts)
    manifest = manifest.copy()
    manifest["files"] = files
    manifest["sha256"] = digest_of(manifest)
    write_new(folder / MANIFEST, [json.dumps(manifest, indent=1).encode()])
    sync_folder(folder)


def read_manifest(folder: Path, step: int) -> Manifest:
    """Read and verify the manifest of a checkpoint of this step; raises InvalidFile."""
    return cast("Manifest", checkpoints.read_manifest(folder, step))


def read_position(folder: Path, manifest: Manifest) -> Position:
    """Read and verify the JSON object in position.json; raises InvalidFile."""
    position: Position = cast(
        "Position", json_object(folder / POSITION, read_file(folder / POSITION, manifest))
    )
    return position


def tensors_in(path: Path, content: bytes) -> dict[str, Vector]:
    """Return the tensors of a safetensors file, by name; raises InvalidFile."""
    length = header_length(content[:8], str(path))
    manifest = decode_header(content[8 : 8 + length], str(path))
    data = memoryview(content)[8 + length :]
    if len(data) != manifest.size_bytes or any(t.dtype not in _TYPES for t in manifest.tensors):
        raise InvalidFile(f"{path}: damaged: header and data do not belong together")
    return {
        tensor.name: np.frombuffer(
            data[tensor.offset : tensor.offset + tensor.size_bytes], _TYPES[tensor.dtype]
        ).reshape(tensor.shape)
        for tensor in manifest.tensors
    }


def sha256_of_parts(parts: Iterable[Part]) -> str:
    """Return the SHA-256 of the concatenated parts, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def bytes_of(vector: Vector) -> Part:
    """Return the bytes of a vector, without a copy if its memory is contiguous."""
    return np.ascontiguousarray(vector).data.cast("B") if vector.size else memoryview(b"")
