from __future__ import annotations

import pytest

from dbp.train.fan_out import AnyOf, FanOut
from dbp.train.sink import Command, Outcome
from tests.train.setups import AskAt, Recorder

OUTCOME = Outcome("succeeded", "epochs", 1, 1)


class Failing(Recorder):
    def finished(self, outcome: Outcome) -> None:
        raise OSError("the disk is full")


def test_every_sink_hears_of_the_end_even_if_one_fails() -> None:
    recorder = Recorder()

    with pytest.raises(OSError, match="disk is full"):
        FanOut(Failing(), recorder).finished(OUTCOME)

    assert recorder.outcomes == [OUTCOME]


def test_whatever_any_control_asks_for_is_asked() -> None:
    control = AnyOf(AskAt(1, Command.STOP), AskAt(1, Command.PUBLISH))

    assert control.poll() == Command.STOP | Command.PUBLISH
    assert control.poll() == Command.NONE
