"""Checkpoints: all that a resumed run needs, atomic and verified, free of the world size.

::

    checkpoints/step-000000001234/
        parameters.safetensors  the parameters, as a published version of them
        state.safetensors       the optimizer's slots and the like, by name
        position.json           step, figures, decisions taken so far
        manifest.json           size and SHA-256 of each file above

A folder gets its name when all of it is on disk: temporary folder, fsync of each file,
rename, fsync of the folder above. What is damaged later is found when it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidFile
from dbp.job.snapshot import decode_header, encode_header, header_length, manifest_of

PARAMETERS: Final = "parameters"
FORMAT: Final = 1
FILES: Final = ("parameters.safetensors", "state.safetensors", "position.json")
BEST: Final = "best"
MANIFEST: Final = "manifest.json"
MAX_JSON_BYTES: Final = 64 << 20

_NAME = re.compile(r"step-(\d{12,})")
_TEMPORARY: Final = ".writing-"
_TYPES: Final = {"F32": "<f4", "F64": "<f8"}

Vector = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step``.

    ``vectors``: 1-D, of the run's type, ``"parameters"`` among them; ``position``: what JSON
    can hold; ``spec_digest``: of the spec that it belongs to; ``arithmetic``: of the machine.
    """

    step: int
    position: Mapping[str, Any]
    vectors: Mapping[str, Vector]
    spec_digest: str
    arithmetic: str = ""


@final
class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    def __init__(
        self, folder: Path, shapes: Shapes, dtype: npt.DTypeLike, *, keep: int
    ) -> None:
        """``shapes``: of the parameters, in the order of their vector; ``keep``: the newest."""
        self.folder = folder
        self._shapes = dict(shapes)
        self._type = {np.dtype("f4"): "F32", np.dtype("f8"): "F64"}[np.dtype(dtype)]
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps of all checkpoints, ascending; whether they are sound is not looked at."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def write(
        self, checkpoint: Checkpoint, metadata: Mapping[str, str], *, best: bool = False
    ) -> Path:
        """Write one; it is on disk when this returns. Older ones than the newest go.

        ``best``: it is the best so far, which the link of that name shows and which stays.
        ``metadata``: what the parameter file says besides its tensors. Raises OSError where
        it cannot be written; then the older ones are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers()
        path = self._path(checkpoint.step)
        temporary = self.folder / f"{_TEMPORARY}{os.getpid()}"
        try:
            temporary.mkdir()
            _fill(temporary, self._contents(checkpoint, metadata), checkpoint)
            if path.exists():  # the same step again, after a resume: the new one is as good
                path.rename(temporary.with_suffix(".old"))
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if best:
            self._point_at(path)
        _sync_folder(self.folder)
        self._clear_leftovers()
        kept = self._best()
        for step in self.steps()[: -self._keep]:
            if self._path(step).name != kept:
                shutil.rmtree(self._path(step), ignore_errors=True)
        return path

    def _point_at(self, path: Path) -> None:
        """Let the link ``best`` show this checkpoint, from one moment to the next."""
        link = self.folder / f"{_TEMPORARY}{os.getpid()}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        link.replace(self.folder / BEST)

    def _best(self) -> str:
        """The name of the folder that ``best`` shows, if it shows one."""
        try:
            return (self.folder / BEST).readlink().name
        except OSError:
            return ""

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest sound checkpoint, or None; a damaged one is passed over with a warning."""
        for step in reversed(self.steps()):
            try:
                return self.read(step)
            except InvalidFile as error:
                warn(f"{error}; an older checkpoint is used, if there is one")
        return None

    def read(self, step: int) -> Checkpoint:
        """The checkpoint of this step, every byte verified; raises InvalidFile."""
        path = self._path(step)
        manifest = _json(path / MANIFEST, _read(path / MANIFEST))
        if manifest.pop("sha256", None) != _digest_of(manifest):
            raise InvalidFile(f"{path / MANIFEST}: damaged: its SHA-256 is another")
        if manifest.get("format") != FORMAT or manifest.get("step") != step:
            raise InvalidFile(f"{path}: not a checkpoint of step {step} in format {FORMAT}")
        contents = {name: _verified(path / name, manifest) for name in FILES}
        parameters = _vectors(path / FILES[0], contents[FILES[0]])
        state = _vectors(path / FILES[1], contents[FILES[1]])
        if {name: vector.shape for name, vector in parameters.items()} != self._shapes:
            raise InvalidFile(f"{path}: its parameters are those of another model")
        flat = [np.empty(0, _TYPES[self._type]), *(v.ravel() for v in parameters.values())]
        vectors = {PARAMETERS: np.concatenate(flat)} | state
        return Checkpoint(
            step,
            _json(path / FILES[2], contents[FILES[2]]),
            vectors,
            str(manifest.get("spec_digest")),
            str(manifest.get("arithmetic", "")),
        )

    def discard(self) -> None:
        """Remove all checkpoints: the run has ended, or begins anew."""
        for step in self.steps():
            shutil.rmtree(self._path(step))
        with contextlib.suppress(OSError):
            (self.folder / BEST).unlink()
        self._clear_leftovers()
        with contextlib.suppress(OSError):  # not there, or other files are in it
            self.folder.rmdir()

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:012d}"

    def _contents(self, checkpoint: Checkpoint, metadata: Mapping[str, str]) -> list[list[Any]]:
        """The parts of each file, in the order of FILES."""
        state = {n: v for n, v in checkpoint.vectors.items() if n != PARAMETERS}
        header = encode_header(manifest_of(self._shapes, self._type, metadata))
        sizes = {name: vector.shape for name, vector in state.items()}
        state_header = encode_header(manifest_of(sizes, self._type, {}))
        position = json.dumps(checkpoint.position, indent=1, allow_nan=False).encode()
        return [
            [header, _bytes(checkpoint.vectors[PARAMETERS])],
            [state_header, *map(_bytes, state.values())],
            [position],
        ]

    def _clear_leftovers(self) -> None:
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                if entry.name.startswith(_TEMPORARY):
                    if entry.is_symlink():
                        entry.unlink(missing_ok=True)
                    else:
                        shutil.rmtree(entry, ignore_errors=True)


def _fill(folder: Path, contents: list[list[Any]], checkpoint: Checkpoint) -> None:
    """Write all files of a checkpoint, the manifest last, each on disk when it is closed."""
    files = {}
    for name, parts in zip(FILES, contents, strict=True):
        digest, size = hashlib.sha256(), 0
        for part in parts:
            digest.update(part)
            size += len(part)
        files[name] = {"bytes": size, "sha256": digest.hexdigest()}
        _write(folder / name, parts)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "step": checkpoint.step,
        "spec_digest": checkpoint.spec_digest,
        "arithmetic": checkpoint.arithmetic,
        "files": files,
    }
    manifest["sha256"] = _digest_of(manifest)
    _write(folder / MANIFEST, [json.dumps(manifest, indent=1).encode()])
    _sync_folder(folder)


def _digest_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write(path: Path, parts: list[Any]) -> None:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes(vector: Vector) -> memoryview:
    return np.ascontiguousarray(vector).data.cast("B") if vector.size else memoryview(b"")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        table = json.loads(content[: MAX_JSON_BYTES + 1].decode())
        if not isinstance(table, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path}: damaged: {error}") from error
    return table


def _verified(path: Path, manifest: Mapping[str, Any]) -> bytes:
    """A file's content, compared with what the manifest says of it."""
    entry = manifest["files"][path.name]
    content = _read(path)
    if len(content) != entry["bytes"]:
        raise InvalidFile(
            f"{path}: damaged: {len(content)} bytes, the manifest says {entry['bytes']}"
        )
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise InvalidFile(f"{path}: damaged: its SHA-256 is not that of the manifest")
    return content


def _vectors(path: Path, content: bytes) -> dict[str, Vector]:
    """The tensors of a safetensors file, by name."""
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
