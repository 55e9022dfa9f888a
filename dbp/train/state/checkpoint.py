"""Write and read checkpoints: atomic, verified, and independent of the number of ranks.

Files are in ``checkpoint_files``, folders and their names in ``checkpoint_folder``.
A checkpoint is written to a temporary folder; each file is fsynced, then the folder is renamed
and its parent is fsynced. Reading verifies every byte. If a step already has a sound
checkpoint of the same state, it is not written again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidFile
from dbp.job.snapshot import encode_header, manifest_of
from dbp.storage.checkpoints import FILES, FORMAT, MANIFEST, read_file
from dbp.train.state.checkpoint_files import (
    Manifest,
    Part,
    Vector,
    bytes_of,
    read_manifest,
    read_position,
    sha256_of_parts,
    tensors_in,
    write_files,
)
from dbp.train.state.checkpoint_folder import BEST, CheckpointFolder
from dbp.train.state.position import Facts, Position

__all__ = ["BEST", "FILES", "MANIFEST", "PARAMETERS", "Checkpoint", "CheckpointStore", "glance"]

PARAMETERS: Final = "parameters"

_TYPES: Final = {"F32": "<f4", "F64": "<f8"}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step``.

    Attributes:
        step: Number of the last step, from 1.
        position: The state other than vectors, as a JSON object.
        vectors: 1-D arrays of the run's type by name; one is ``"parameters"``.
        spec_digest: Digest of the run's spec.
        arithmetic: ``Setup.arithmetic()`` of the process that wrote it.
        facts: Spec, data and length of the run that wrote it, as a JSON object.
        shapes: Shapes of the tensors in the parameter file that was read.
    """

    step: int
    position: Position
    vectors: Mapping[str, Vector]
    spec_digest: str
    arithmetic: str = ""
    facts: Facts = field(default_factory=Facts)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)


@final
class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    def __init__(
        self, folder: Path, shapes: Shapes, dtype: npt.DTypeLike, *, keep: int
    ) -> None:
        """``shapes`` are those of the parameters, in order; the newest ``keep`` are kept."""
        self.folder = folder
        self._names = CheckpointFolder(folder)
        self._shapes = dict(shapes)
        self._type = {np.dtype("f4"): "F32", np.dtype("f8"): "F64"}[np.dtype(dtype)]
        self._keep = keep

    def path_of(self, step: int) -> Path:
        """Return the folder of the checkpoint of this step."""
        return self._names.of(step)

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, ascending, sound or damaged."""
        return sorted({step for _, step in self._names.newest_first()})

    def write(
        self, checkpoint: Checkpoint, metadata: Mapping[str, str], *, best: bool = False
    ) -> Path:
        """Write a checkpoint, unless the same one exists; it is on disk on return.

        Then remove all checkpoints but the newest ``keep`` and the best. With ``best`` the
        link ``best`` points to this one. ``metadata`` is stored in the parameter file. Raises
        OSError if writing fails; older checkpoints are then unchanged.
        """
        path = self._names.of(checkpoint.step)
        contents = self._contents(checkpoint, metadata)
        if _holds(path, checkpoint, contents):
            self._names.sync()
        else:
            facts = _manifest_facts(checkpoint)
            self._names.add(checkpoint.step, lambda place: write_files(place, contents, facts))
        if best:
            self._names.point_at(checkpoint.step)
        self._prune(checkpoint.step)
        return path

    def mark_best(self, step: int) -> None:
        """Point the link ``best`` to the checkpoint of this step; raises OSError."""
        self._names.point_at(step)

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Read the newest sound checkpoint, or return None; skip damaged ones with a warning.

        It may belong to another model: see ``check_model``.
        """
        for path, step in self._names.newest_first():
            try:
                return self._read(path, step)
            except InvalidFile as error:
                warn(f"{error}; an older checkpoint is used, if there is one")
        return None

    def read(self, step: int) -> Checkpoint:
        """Read the checkpoint of this step and verify every byte; raises InvalidFile."""
        paths = [path for path, known in self._names.newest_first() if known == step]
        for path in paths[:-1]:
            with contextlib.suppress(InvalidFile):
                return self._of_this_model(self._read(path, step))
        path = paths[-1] if paths else self._names.of(step)
        return self._of_this_model(self._read(path, step))

    def check_model(self, checkpoint: Checkpoint) -> None:
        """Raise InvalidFile unless the tensors have the names and shapes of the model."""
        if checkpoint.shapes != self._shapes:
            path = self._names.of(checkpoint.step)
            raise InvalidFile(f"{path}: its parameters are those of another model")

    def discard(self) -> None:
        """Remove all checkpoints, since the run starts at step 0."""
        if not self.folder.is_dir():
            return
        self._names.point_at(None)
        for step in reversed(self.steps()):
            self._names.remove(step)
        self._names.clear_leftovers()
        self._names.sync()
        with contextlib.suppress(OSError):  # not empty
            self.folder.rmdir()

    def discard_after(self, step: int) -> None:
        """Remove checkpoints of later steps, and the link ``best`` if it points to one."""
        if (best := self._names.best()) is not None and best > step:
            self._names.point_at(None)
        for later in self.steps():
            if later > step:
                self._names.remove(later)
        if self.folder.is_dir():
            self._names.sync()

    def _of_this_model(self, checkpoint: Checkpoint) -> Checkpoint:
        self.check_model(checkpoint)
        return checkpoint

    def _prune(self, step: int) -> None:
        """Remove all checkpoints up to this step but the newest ``keep``.

        Checkpoints of later steps are damaged ones that a resume has skipped.
        """
        best = self._names.best()
        for old in [known for known in self.steps() if known <= step][: -self._keep]:
            if old != best:
                with contextlib.suppress(OSError):
                    self._names.remove(old)

    def _read(self, path: Path, step: int) -> Checkpoint:
        manifest = read_manifest(path, step)
        parameters, state = (
            tensors_in(path / name, read_file(path / name, manifest)) for name in FILES[:2]
        )
        flat = [np.empty(0, _TYPES[self._type]), *(v.ravel() for v in parameters.values())]
        return Checkpoint(
            step,
            read_position(path, manifest),
            {PARAMETERS: np.concatenate(flat)} | state,
            str(manifest.get("spec_digest")),
            str(manifest.get("arithmetic", "")),
            manifest.get("facts", {}),
            {name: vector.shape for name, vector in parameters.items()},
        )

    def _contents(
        self, checkpoint: Checkpoint, metadata: Mapping[str, str]
    ) -> list[list[Part]]:
        """Return the parts of each file, in the order of FILES."""
        state = {n: v for n, v in checkpoint.vectors.items() if n != PARAMETERS}
        header = encode_header(manifest_of(self._shapes, self._type, metadata))
        sizes = {name: vector.shape for name, vector in state.items()}
        state_header = encode_header(manifest_of(sizes, self._type, {}))
        position = json.dumps(checkpoint.position, indent=1, allow_nan=False).encode()
        return [
            [header, bytes_of(checkpoint.vectors[PARAMETERS])],
            [state_header, *map(bytes_of, state.values())],
            [position],
        ]


def glance(folder: Path) -> tuple[int, Position, Facts] | None:
    """Return step, position and facts of the newest checkpoint; read no parameters.

    Skips checkpoints whose manifest or position is damaged. Returns None if none is left.
    """
    for path, step in CheckpointFolder(folder).newest_first():
        with contextlib.suppress(InvalidFile):
            manifest = read_manifest(path, step)
            return step, read_position(path, manifest), manifest.get("facts", {})
    return None


def arithmetic_of(folder: Path) -> str:
    """Return the arithmetic of the newest checkpoint with a sound manifest; "" if unknown."""
    for path, step in CheckpointFolder(folder).newest_first():
        with contextlib.suppress(InvalidFile):
            return str(read_manifest(path, step).get("arithmetic", ""))
    return ""


def _manifest_facts(checkpoint: Checkpoint) -> Manifest:
    return {
        "format": FORMAT,
        "step": checkpoint.step,
        "spec_digest": checkpoint.spec_digest,
        "arithmetic": checkpoint.arithmetic,
        "facts": checkpoint.facts,
    }


def _holds(path: Path, checkpoint: Checkpoint, contents: list[list[Part]]) -> bool:
    """Return whether ``path`` is a sound checkpoint of this state; its time may differ."""
    if not path.exists():
        return False
    try:
        manifest = read_manifest(path, checkpoint.step)
        position = read_position(path, manifest)
        for name in FILES[:2]:
            read_file(path / name, manifest)
    except InvalidFile:
        return False
    facts = _manifest_facts(checkpoint)
    given = json.loads(json.dumps(checkpoint.position))
    return (
        json.loads(json.dumps(facts)) == {name: manifest.get(name) for name in facts}
        and {**position, "seconds": 0.0} == {**given, "seconds": 0.0}
        and all(
            sha256_of_parts(parts) == manifest["files"][name]["sha256"]
            for name, parts in zip(FILES[:2], contents[:2], strict=True)
        )
    )
