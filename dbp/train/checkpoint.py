"""Checkpoints: all that a resumed run needs, atomic and verified, free of the world size.

Files: ``dbp.train.checkpoint_files``; folders and their names: ``dbp.train.checkpoint_folder``.
A folder gets its name when all of it is on disk: temporary folder, fsync of each file,
rename, fsync of the folder above. Reading verifies every byte. A step that
has a sound checkpoint of the same state is not written again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidFile
from dbp.job.snapshot import encode_header, manifest_of
from dbp.train.checkpoint_files import (
    FILES,
    MANIFEST,
    Part,
    Vector,
    bytes_of,
    read_file,
    read_manifest,
    read_position,
    sha256_of_parts,
    tensors_in,
    write_files,
)
from dbp.train.checkpoint_folder import BEST, CheckpointFolder

__all__ = ["BEST", "FILES", "MANIFEST", "PARAMETERS", "Checkpoint", "CheckpointStore", "glance"]

PARAMETERS: Final = "parameters"

_TYPES: Final = {"F32": "<f4", "F64": "<f8"}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step``.

    ``vectors``: 1-D, of the run's type, ``"parameters"`` among them; ``position``: what JSON
    can hold; ``spec_digest``: of the spec that it belongs to; ``arithmetic``: of the machine.
    ``facts``: of the run that wrote it, as JSON can hold them. ``shapes``: of the tensors
    in the parameter file that was read.
    """

    step: int
    position: Mapping[str, Any]
    vectors: Mapping[str, Vector]
    spec_digest: str
    arithmetic: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)


@final
class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    def __init__(
        self, folder: Path, shapes: Shapes, dtype: npt.DTypeLike, *, keep: int
    ) -> None:
        """``shapes``: of the parameters, in the order of their vector; ``keep``: the newest."""
        self.folder = folder
        self._names = CheckpointFolder(folder)
        self._shapes = dict(shapes)
        self._type = {np.dtype("f4"): "F32", np.dtype("f8"): "F64"}[np.dtype(dtype)]
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps of all checkpoints, ascending, sound or not."""
        return sorted({step for _, step in self._names.newest_first()})

    def write(
        self, checkpoint: Checkpoint, metadata: Mapping[str, str], *, best: bool = False
    ) -> Path:
        """Write one, unless the same is there; it is on disk when this returns.

        Checkpoints of earlier steps than the newest ``keep`` are removed, but for the best.
        ``best``: it is the best so far, which the link of that name shows. ``metadata``: what
        the parameter file says besides its tensors. Raises OSError where it cannot be
        written; then the older ones are as they were.
        """
        path = self._names.of(checkpoint.step)
        contents = self._contents(checkpoint, metadata)
        if not _holds(path, checkpoint, contents):
            facts = _manifest_facts(checkpoint)
            self._names.add(checkpoint.step, lambda place: write_files(place, contents, facts))
        if best:
            self._names.point_at(checkpoint.step)
        self._prune(checkpoint.step)
        return path

    def mark_best(self, step: int) -> None:
        """Let the link ``best`` show the checkpoint of this step; raises OSError."""
        self._names.point_at(step)

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest sound checkpoint, or None; a damaged one is passed over with a warning.

        It may be another model's: see ``check_model``.
        """
        for path, step in self._names.newest_first():
            try:
                return self._read(path, step)
            except InvalidFile as error:
                warn(f"{error}; an older checkpoint is used, if there is one")
        return None

    def read(self, step: int) -> Checkpoint:
        """The checkpoint of this step, every byte verified; raises InvalidFile."""
        paths = [path for path, known in self._names.newest_first() if known == step]
        for path in paths[:-1]:
            with contextlib.suppress(InvalidFile):
                return self._of_this_model(self._read(path, step))
        path = paths[-1] if paths else self._names.of(step)
        return self._of_this_model(self._read(path, step))

    def check_model(self, checkpoint: Checkpoint) -> None:
        """Raise InvalidFile unless the parameters are those of this store's model."""
        if checkpoint.shapes != self._shapes:
            path = self._names.of(checkpoint.step)
            raise InvalidFile(f"{path}: its parameters are those of another model")

    def discard(self) -> None:
        """Remove all checkpoints: the run starts at step 0."""
        if self.folder.is_dir():
            self._names.point_at(None)
        for step in reversed(self.steps()):
            self._names.remove(step)
        self._names.clear_leftovers()
        with contextlib.suppress(OSError):  # not there, or other files are in it
            self.folder.rmdir()

    def discard_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, and the link ``best`` if it shows one."""
        if (best := self._names.best()) is not None and best > step:
            self._names.point_at(None)
        for later in self.steps():
            if later > step:
                self._names.remove(later)

    def _of_this_model(self, checkpoint: Checkpoint) -> Checkpoint:
        self.check_model(checkpoint)
        return checkpoint

    def _prune(self, step: int) -> None:
        """Remove earlier checkpoints than the newest ``keep`` up to this step.

        Later steps are those of damaged checkpoints that a resume has passed over.
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
        """The parts of each file, in the order of FILES."""
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


def glance(folder: Path) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Step, position and facts of the newest checkpoint in a folder; reads no parameters.

    Passes over checkpoints whose manifest or position is damaged. None: there is none.
    """
    for path, step in CheckpointFolder(folder).newest_first():
        with contextlib.suppress(InvalidFile):
            manifest = read_manifest(path, step)
            return step, read_position(path, manifest), manifest.get("facts", {})
    return None


def _manifest_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "step": checkpoint.step,
        "spec_digest": checkpoint.spec_digest,
        "arithmetic": checkpoint.arithmetic,
        "facts": dict(checkpoint.facts),
    }


def _holds(path: Path, checkpoint: Checkpoint, contents: list[list[Part]]) -> bool:
    """Whether a sound checkpoint of just this state is there; only its time may differ."""
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
    for known in (position, given):
        known.pop("seconds", None)
    return (
        json.loads(json.dumps(facts)) == {name: manifest.get(name) for name in facts}
        and position == given
        and all(
            sha256_of_parts(parts) == manifest["files"][name]["sha256"]
            for name, parts in zip(FILES[:2], contents[:2], strict=True)
        )
    )
