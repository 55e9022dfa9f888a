"""Records acts in a child process, kills them at points, and judges what recovery finds."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

from tests.durability.act import Act
from tests.durability.crash_states import Replay, Tree, digest_of, tree_of, write_tree
from tests.durability.operations import Acknowledge, Operation
from tests.warden import BACKING


@final
@dataclass(frozen=True)
class Recording:
    """An act that was not disturbed: the folder before it, and what it did."""

    act: Act
    before: Tree
    operations: Sequence[Operation]
    points: Sequence[str]
    scratch: Path  # a folder for states
    _known: dict[bytes, str] = field(default_factory=dict)

    @cached_property
    def replay(self) -> Replay:
        return Replay(self.before, self.operations)

    @cached_property
    def history(self) -> list[str]:
        """What recovery finds after a kill before each operation, and at the end."""
        return [self.found(self.replay.killed(at)) for at in range(len(self.operations) + 1)]

    def found(self, tree: Tree) -> str:
        """Return what recovery finds in this folder."""
        key = digest_of(tree)
        if key not in self._known:
            place = self.scratch / "found"
            write_tree(tree, place)
            self._known[key] = self.act.recover(place)
        return self._known[key]

    def facts(self, at: int) -> list[str]:
        """Return the facts acknowledged before an operation."""
        done = self.operations[:at]
        return [each.fact for each in done if isinstance(each, Acknowledge)]

    def reached(self, facts: Sequence[str]) -> int:
        """Return the first operation before which all these facts, in order, were true."""
        at = 0
        for fact in facts:
            at = next(n for n in range(at, len(self.history)) if fact in self.history[n])
        return at

    def judge(self, found: str, facts: Sequence[str], at: int | None = None) -> None:
        """Check what recovery found after a crash before operation ``at`` (None: unknown):
        nothing that was acknowledged is undone, and all else is whole or absent.
        """
        allowed = self.history[self.reached(facts) : None if at is None else at + 1]
        assert found in allowed, (
            f"{self.act.name}: cut before {self.points[at] if at is not None else '?'}: "
            f"acknowledged {facts}; recovery finds\n  {found}\nallowed\n  "
            + "\n  ".join(dict.fromkeys(allowed))
        )

    def power_cuts(self, rng: random.Random, share: float = 1.0) -> Iterator[tuple[int, Tree]]:
        """Yield an operation and a folder that a power cut before it can leave, each once.

        ``share``: of the folders of each operation, but always the one with only what was
        synced.
        """
        seen: set[tuple[bytes, int]] = set()
        for at in range(len(self.operations) + 1):
            facts = len(self.facts(at))
            for number, tree in enumerate(self.replay.power_cuts(at, rng)):
                if number and rng.random() >= share:
                    continue
                key = (digest_of(tree), facts)
                if key not in seen:
                    seen.add(key)
                    yield at, tree


@final
class Workshop:
    """Runs acts in children of a process of its own."""

    def __init__(self, scratch: Path, process: subprocess.Popen[str]) -> None:
        self._scratch = scratch
        self._process = process
        self._number = 0

    def record(self, act: Act) -> Recording:
        """Record an act that is not disturbed; the recording explains the whole folder."""
        folder, out = self._prepared(act), self._scratch / "recording"
        before = tree_of(folder)
        code, _ = self._ask(act, folder, out=out)
        assert code == 0, f"{act.name}: failed without a crash"
        operations, points = pickle.loads(out.read_bytes())
        recording = Recording(act, before, operations, points, self._scratch)
        assert recording.replay.killed(len(operations)) == tree_of(folder), "not all recorded"
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
        self, act: Act, folder: Path, *, kill_at: str = "", out: Path | None = None
    ) -> tuple[int, list[str]]:
        order = {
            "act": act.name, "folder": str(folder), "kill_at": kill_at, "out": str(out or ""),
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


def drawn(points: Sequence[str], rng: random.Random, count: int) -> Iterable[str]:
    """Return ``count`` of the points, in order."""
    return sorted(rng.sample(points, min(count, len(points))), key=points.index)
