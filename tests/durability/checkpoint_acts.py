"""Checkpoints: written, replaced, pruned, linked as the best, dropped after a roll-back."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from dbp.train.state.checkpoint import Checkpoint, CheckpointStore, glance
from tests.durability.act import Acknowledger, Act, take

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

    @abstractmethod
    def steps(self, folder: Path) -> list[Callable[[], str]]:
        """Return the steps; each returns the fact that is durable then."""

    def write(self, folder: Path, found: Checkpoint, *, best: bool = False) -> str:
        """Write a checkpoint; return the fact."""
        self.store(folder).write(found, {}, best=best)
        return f"newest {named(found)}" + (f" best {named(found)}" if best else "")

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        take(self.steps(folder), acknowledge, done)

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

    def again(self, folder: Path, done: int, end: str) -> None:
        super().again(folder, done, end)
        store = CheckpointStore(self.store(folder).folder, SHAPES, "float32", keep=1)
        store.write(checkpoint(99), {}, best=True)
        names = sorted(entry.name for entry in store.folder.iterdir())
        assert names == ["best", "step-000000000099"], names


def _refuse(text: str) -> None:
    raise AssertionError(f"a damaged checkpoint was found: {text}")


@final
class WriteCheckpoints(_Checkpoints):
    """Three steps, of which the newest and the best stay."""

    name = "write checkpoints"

    def steps(self, folder: Path) -> list[Callable[[], str]]:
        return [
            lambda: self.write(folder, checkpoint(1), best=True),
            lambda: self.write(folder, checkpoint(2), best=True),
            lambda: self.write(folder, checkpoint(3)),
        ]


@final
class ReplaceCheckpoint(_Checkpoints):
    """The checkpoint of a step is written again with another state."""

    name = "replace a checkpoint"

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        self.write(folder, checkpoint(5), best=True)

    def steps(self, folder: Path) -> list[Callable[[], str]]:
        return [
            lambda: self.write(folder, checkpoint(5, state=1), best=True),
            lambda: self.write(folder, checkpoint(5, state=2)),
        ]


@final
class RollBack(_Checkpoints):
    """A roll-back drops later checkpoints; the run writes others of the same steps."""

    name = "roll back checkpoints"
    keep = 3

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        for step in (1, 2, 3):
            self.write(folder, checkpoint(step), best=step == 3)

    def steps(self, folder: Path) -> list[Callable[[], str]]:
        def roll_back() -> str:
            self.store(folder).discard_after(1)
            return f"newest {named(checkpoint(1))}"

        return [roll_back, lambda: self.write(folder, checkpoint(2, state=1))]


@final
class DiscardCheckpoints(_Checkpoints):
    """A run starts at step 0: checkpoints of an earlier run go."""

    name = "discard checkpoints"
    keep = 3

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        for step in (1, 2):
            self.write(folder, checkpoint(step), best=step == 1)

    def steps(self, folder: Path) -> list[Callable[[], str]]:
        def discard() -> str:
            self.store(folder).discard()
            return "nothing"

        return [discard, lambda: self.write(folder, checkpoint(1, state=1))]
