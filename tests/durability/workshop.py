"""Records acts in a child process, kills them at points, and judges the recovered facts."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, final

from tests.durability.act import Act
from tests.durability.crash_states import Replay, Tree, key_of, tree_of, write_tree
from tests.durability.operations import Acknowledge, Operation
from tests.warden import BACKING


@final
@dataclass(frozen=True)
class Recording:
    """An act that was not disturbed: the folder before it, and its operations."""

    act: Act
    before: Tree
    operations: Sequence[Operation]
    points: Sequence[str]
    scratch: Path  # a folder for states
    seam: int = 0  # where a killed act was continued
    _known: dict[object, str] = field(default_factory=dict)

    @cached_property
    def replay(self) -> Replay:
        return Replay(self.before, self.operations)

    @cached_property
    def history(self) -> list[str]:
        """The facts that recovery finds after a kill before each operation, and at the end.

        If two kills leave the same facts, so do those between them: they are not tried.
        """
        history = [""] * (len(self.operations) + 1)

        def fill(first: int, last: int) -> None:
            if history[first] == history[last]:
                history[first:last] = [history[first]] * (last - first)
            elif last - first > 1:
                middle = (first + last) // 2
                history[middle] = self.found(self.replay.killed(middle))
                fill(first, middle)
                fill(middle, last)

        said = (n for n, each in enumerate(self.operations) if isinstance(each, Acknowledge))
        ends = sorted({0, *said, self.seam, len(self.operations)})
        for at in ends:
            history[at] = self.found(self.replay.killed(at))
        for first, last in pairwise(ends):
            fill(first, last)
        return history

    def found(self, tree: Tree) -> str:
        """Return the facts that recovery finds in this folder."""
        key = key_of(tree)
        if key not in self._known:
            place = self.scratch / "found"
            write_tree(tree, place)
            self._known[key] = self.act.recover(place)
        return self._known[key]

    def facts(self, point: str) -> list[str]:
        """Return the facts acknowledged before an operation ("": in all)."""
        done = self.operations[: self.points.index(point) if point else None]
        return [each.fact for each in done if isinstance(each, Acknowledge)]

    def reached(self, facts: Sequence[str]) -> int:
        """Return the first operation before which all these facts, in order, were true."""
        at = 0
        for fact in facts:
            at = next(n for n in range(at, len(self.history)) if fact in self.history[n])
        return at

    def judge(self, found: str, facts: Sequence[str], point: str) -> None:
        """Check the facts after a crash before an operation, or at the end: those that were
        acknowledged are there, and all others are whole or absent.
        """
        at = self.points.index(point) if point else len(self.points)
        allowed = self.history[self.reached(facts) : at + 1]
        assert found in allowed, (
            f"{self.act.name}: cut before {point or 'the end'}: acknowledged {facts}; recovery "
            f"finds\n  {found}\nallowed\n  " + "\n  ".join(dict.fromkeys(allowed))
        )

    def power_cuts(
        self, rng: random.Random, share: float = 1.0, start: int = 0
    ) -> Iterator[tuple[str, Tree]]:
        """Yield an operation ("": the end) and a folder that a power cut before it can leave.

        Each folder once. ``share``: as for ``Replay``; ``start``: the first operation.
        """
        seen: set[tuple[object, int]] = set()
        for at, point in [*enumerate([*self.points, ""])][start:]:
            facts = len(self.facts(point))
            for tree in self.replay.power_cuts(at, rng, share):
                key = (key_of(tree), facts)
                if key not in seen:
                    seen.add(key)
                    yield point, tree


@final
class Workshop:
    """Runs acts in children of a process of its own."""

    def __init__(self, scratch: Path, process: subprocess.Popen[str]) -> None:
        self._scratch = scratch
        self._process = process
        self._number = 0

    def record(self, act: Act) -> Recording:
        """Record an act that is not disturbed; the recording explains the whole folder."""
        folder = self._prepared(act)
        before = tree_of(folder)
        return self._recorded(act, folder, before, [], [])

    def resume(self, killed: Recording, point: str) -> Recording:
        """Record how an act continues that was killed at a point, up to there as recorded.

        What was not synced before the kill is not synced after it either.
        """
        at = killed.points.index(point)
        folder = self._scratch / "act"
        write_tree(killed.replay.killed(at), folder)
        return self._recorded(
            killed.act, folder, killed.before, killed.operations[:at], killed.points[:at]
        )

    def _recorded(
        self,
        act: Act,
        folder: Path,
        before: Tree,
        operations: Sequence[Operation],
        points: Sequence[str],
    ) -> Recording:
        """Run the rest of an act in a child; return the recording of all of it."""
        out = self._scratch / "recording"
        done = sum(isinstance(each, Acknowledge) for each in operations)
        code, _ = self._ask(act, folder, out=out, done=done)
        assert code == 0, f"{act.name}: failed without a crash"
        more, more_points = pickle.loads(out.read_bytes())
        later = [f"then {point}" for point in more_points] if operations else more_points
        recording = Recording(
            act, before, [*operations, *more], [*points, *later], self._scratch, len(operations)
        )
        replayed, real = recording.replay.killed(len(recording.operations)), tree_of(folder)
        lacking = [name for name in replayed | real if replayed.get(name) != real.get(name)]
        assert not lacking, f"{act.name}: not all that was done to {lacking} is recorded"
        return recording

    def kill(self, act: Act, point: str) -> tuple[Path, list[str]]:
        """Kill an act at a point; return the folder and the facts acknowledged before."""
        folder = self._prepared(act)
        code, facts = self._ask(act, folder, kill_at=point)
        assert code == -9, f"{act.name}: did not come to {point}"
        return folder, facts

    def _prepared(self, act: Act) -> Path:
        self._number += 1
        folder = self._scratch / "act"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        act.prepare(folder)
        return folder

    def _ask(
        self,
        act: Act,
        folder: Path,
        *,
        kill_at: str = "",
        out: Path | None = None,
        done: int = 0,
    ) -> tuple[int, list[str]]:
        order = {
            "act": act.name, "folder": str(folder), "kill_at": kill_at,
            "out": str(out or ""), "done": done,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer["code"], answer["facts"]


@contextmanager
def workshop() -> Iterator[Workshop]:
    """Start the process that runs acts, in a folder in memory: real fsyncs cost time."""
    with tempfile.TemporaryDirectory(dir=os.environ.get(BACKING)) as scratch:
        yield from _started(Path(scratch))


def _started(scratch: Path) -> Iterator[Workshop]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.durability.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Workshop(scratch, process)
