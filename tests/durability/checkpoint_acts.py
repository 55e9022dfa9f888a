"""Checkpoints: written, replaced, pruned, linked as the best, dropped after a roll-back."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from dbp.train.state.checkpoint import Checkpoint, CheckpointStore, glance
from tests.durability.act import Acknowledger, Act

SHAPES: Final = {"0.weight": (30, 10), "0.bias": (10,)}


def checkpoint(step: int, state: int = 0) -> Checkpoint:
    """A checkpoint of several blocks of a disk; ``state`` tells those of one step apart."""
    rng = np.random.default_rng([step, state])
    position: Any = {"figures": {"loss": 0.1 + step}, "best": None}
    vectors = {
        name: rng.standard_normal(310).astype(np.float32) for name in ("parameters", "slot.m")
    }
    return Checkpoint(step, position, vectors, spec_digest="f00d")


def named(found: Checkpoint) -> str:
    """Step and digest: two states of a step differ."""
    content = b"".join(vector.tobytes() for vector in found.vectors.values())
    return f"{found.step}:{hashlib.sha256(content).hexdigest()[:8]}"


class _Checkpoints(Act):
    """Checkpoints of one run in ``run/checkpoints``."""

    keep = 1

    def store(self, folder: Path) -> CheckpointStore:
        place = folder / "run" / "checkpoints"
        return CheckpointStore(place, SHAPES, "float32", keep=self.keep)

    def write(
        self,
        folder: Path,
        acknowledge: Acknowledger,
        found: Checkpoint,
        metadata: Mapping[str, str],
        **best: bool,
    ) -> None:
        self.store(folder).write(found, metadata, **best)
        acknowledge(f"newest {named(found)}")

    def prepare(self, folder: Path) -> None:
        (folder / "run").mkdir()

    def recover(self, folder: Path) -> str:
        """The newest checkpoint is sound at any moment once there was one."""
        store = self.store(folder)
        newest = store.newest(_refuse)
        glanced = glance(store.folder)
        if newest is None:
            assert glanced is None
            return "nothing"
        assert glanced is not None
        assert glanced[0] == newest.step
        best = store.folder / "best"
        linked = ""
        if best.is_symlink():
            step = int(best.readlink().name.removeprefix("step-"))
            linked = f" best {named(store.read(step))}"
        return f"newest {named(newest)}{linked}"

    def again(self, folder: Path, done: int) -> None:
        """Whatever was left: a later checkpoint can be written, and no rubbish stays."""
        store = self.store(folder)
        store.write(checkpoint(99), {}, best=True)
        assert named(store.read(99)) == named(checkpoint(99))
        names = sorted(entry.name for entry in store.folder.iterdir())
        assert names == ["best", "step-000000000099"], names


def _refuse(text: str) -> None:
    raise AssertionError(f"a damaged checkpoint was found: {text}")


@final
class WriteCheckpoints(_Checkpoints):
    """Three steps, of which the newest and the best stay."""

    name = "write checkpoints"

    def run(self, folder: Path, acknowledge: Acknowledger) -> None:
        self.write(folder, acknowledge, checkpoint(1), {})
        self.write(folder, acknowledge, checkpoint(2), {}, best=True)
        acknowledge(f"best {named(checkpoint(2))}")
        self.write(folder, acknowledge, checkpoint(3), {})


@final
class ReplaceCheckpoint(_Checkpoints):
    """The checkpoint of a step is written again with another state."""

    name = "replace a checkpoint"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        self.store(folder).write(checkpoint(5), {}, best=True)

    def run(self, folder: Path, acknowledge: Acknowledger) -> None:
        self.write(folder, acknowledge, checkpoint(5, state=1), {}, best=True)
        self.write(folder, acknowledge, checkpoint(5, state=2), {})


@final
class RollBack(_Checkpoints):
    """A roll-back drops later checkpoints; the run writes others of the same steps."""

    name = "roll back checkpoints"
    keep = 3

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        for step in (1, 2, 3):
            self.store(folder).write(checkpoint(step), {}, best=step == 3)

    def run(self, folder: Path, acknowledge: Acknowledger) -> None:
        self.store(folder).discard_after(1)
        acknowledge(f"newest {named(checkpoint(1))}")
        self.write(folder, acknowledge, checkpoint(2, state=1), {})

    def again(self, folder: Path, done: int) -> None:
        store = CheckpointStore(self.store(folder).folder, SHAPES, "float32", keep=1)
        store.write(dataclasses.replace(checkpoint(99)), {}, best=True)
        assert store.steps() == [99]


@final
class DiscardCheckpoints(_Checkpoints):
    """A run starts at step 0: checkpoints of an earlier run go."""

    name = "discard checkpoints"
    keep = 3

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        for step in (1, 2):
            self.store(folder).write(checkpoint(step), {}, best=step == 1)

    def run(self, folder: Path, acknowledge: Acknowledger) -> None:
        self.store(folder).discard()
        acknowledge("nothing")
        self.write(folder, acknowledge, checkpoint(1, state=1), {})

    def again(self, folder: Path, done: int) -> None:
        self.store(folder).write(checkpoint(99), {})
