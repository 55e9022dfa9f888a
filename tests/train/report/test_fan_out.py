from __future__ import annotations

import numpy as np
import pytest

from dbp.job.snapshot import Manifest
from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.fan_out import AnyOf, FanOut
from dbp.train.report.sink import Command, ParameterSnapshot
from tests.train.setups import AskAt, Recorder

OUTCOME = RunOutcome("succeeded", "epochs", 1, 1)


PROGRESS = ProgressReport(1, 9, 1, 0.5, {}, 1.0, None, 1.0)
SNAPSHOT = ParameterSnapshot(1, 1, np.zeros(2), Manifest(()))


class Failing(Recorder):
    def progress(self, progress: ProgressReport) -> None:
        raise OSError("the disk is full")

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        raise OSError("the disk is full")

    def finished(self, outcome: RunOutcome) -> None:
        raise OSError("the disk is full")


def test_every_sink_is_called_even_if_one_fails() -> None:
    recorder = Recorder()
    sinks = FanOut(Failing(), recorder)

    with pytest.raises(OSError, match="disk is full"):
        sinks.progress(PROGRESS)
    with pytest.raises(OSError, match="disk is full"):
        sinks.snapshot(SNAPSHOT)
    with pytest.raises(OSError, match="disk is full"):
        sinks.finished(OUTCOME)

    assert recorder.reports == [PROGRESS]
    assert [snapshot for snapshot, _ in recorder.snapshots] == [SNAPSHOT]
    assert recorder.outcomes == [OUTCOME]


def test_commands_of_all_controls_are_combined() -> None:
    control = AnyOf(AskAt(1, Command.STOP), AskAt(1, Command.PUBLISH))

    assert control.poll() == Command.STOP | Command.PUBLISH
    assert control.poll() == Command.NONE
