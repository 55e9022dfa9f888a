"""The files of a run: a finished one is resumed, with another length, and finishes again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, final

import numpy as np

from dbp.job.snapshot import decode_header, header_length, manifest_of
from dbp.job.state import RunOutcome
from dbp.train.report.run_files import METRICS, PARAMETERS, SPEC, read_outcome
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import ParameterSnapshot, Started
from tests.durability.act import Acknowledger, Act, take

VALUES: Final = 1_000


@final
class ResumeRun(Act):
    """The result of the earlier attempt must not count once the new one has begun."""

    name = "resume a run"

    def prepare(self, folder: Path) -> None:
        run = RunFolder.prepare(folder / "run", {"name": "a", "steps": 5})
        run.started(_started(0))
        run.finished(RunOutcome("succeeded", "steps", 5))

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        run = RunFolder.resume(folder / "run", {"name": "a", "steps": 9})

        def start() -> str:
            run.started(_started(5))
            return "9 steps, unfinished"

        def send() -> str:
            vector = np.arange(VALUES, dtype=np.float32)
            manifest = manifest_of({"0.weight": (VALUES,)}, "F32", {})
            run.snapshot(ParameterSnapshot(9, 1, vector, manifest, final=True))
            return "with parameters"

        def finish() -> str:
            run.finished(RunOutcome("succeeded", "steps", 9))
            return "9 steps, succeeded at 9"

        if done:  # a run that is resumed starts over
            start()
        take([start, send, finish][done and 1 :], acknowledge, 0)

    def recover(self, folder: Path) -> str:
        run = folder / "run"
        outcome = read_outcome(run)
        state = "unfinished" if outcome is None else f"{outcome.status} at {outcome.step}"
        lines = (run / METRICS).read_bytes().splitlines()
        if outcome is not None:  # the line of the end is durable before the result
            assert json.loads(lines[-1])["step"] == outcome.step, lines
        steps = json.loads((run / SPEC).read_bytes())["steps"]
        return f"{steps} steps, {state}{_parameters(run / PARAMETERS)}"


def _started(done: int) -> Started:
    return Started(1, 9, 1.0, 9, 9, VALUES, steps_done=done)


def _parameters(path: Path) -> str:
    if not path.exists():
        return ""
    content = path.read_bytes()
    length = header_length(content[:8], str(path))
    decode_header(content[8 : 8 + length], str(path))
    assert content[8 + length :] == np.arange(VALUES, dtype=np.float32).tobytes()
    return " with parameters"
