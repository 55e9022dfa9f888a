"""Messages of rank 0's reporter and its link: one line each, checked when they are read."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import get_args

import pytest

from dbp.job.best import BestEpoch
from dbp.job.snapshot import manifest_of
from dbp.job.state import ProgressReport, RunOutcome
from dbp.json_value import JsonObject
from dbp.link import messages
from dbp.link.messages import (
    TO_LINK,
    TO_RANK,
    Alive,
    AttemptOver,
    FilledSlot,
    FreedSlot,
    LaunchedRun,
    NewRun,
    NumberedOutcome,
    NumberedProgress,
    Probe,
    Refused,
    Registered,
    RegisteredRun,
    RunRequest,
    StoredReports,
    ToLink,
    ToRank,
    TrainingStarted,
    decode,
    encode,
)
from tests.deadline import DEADLINE

MANIFEST = manifest_of({"0.weight": (64, 10), "0.bias": (10,)}, "F32", {"dbp.step": "40"})
DOCUMENT: JsonObject = {
    "name": "digits",
    "layers": [{"kind": "dense", "units": 10}],
    "train": {"x": None},
}
DOWN: list[ToLink] = [
    LaunchedRun("/state/service.json", "digits-1", 2, 4, "secret", True, generation=3),
    NewRun("127.0.0.1:50051", DOCUMENT, 4, "r-1", speaks_of_flags=False),
    RegisteredRun("127.0.0.1:50051", "digits-1", 4, "secret", True, generation=2),
    TrainingStarted(4, 100),
    NumberedProgress(
        3, ProgressReport(7, 100, 1, 0.5, {"training_loss": 0.25}, 1e4, None, 1.5, True, 3)
    ),
    FilledSlot(1, 40, MANIFEST, final=True, best=False),
    NumberedOutcome(
        4,
        RunOutcome(
            "failed", "NON_FINITE", 7, message="caf\u00e9 \udce9\n", best=BestEpoch(1, 5)
        ),
    ),
    Probe(),
]
UP: list[ToRank] = [
    Registered("digits-1", "secret"),
    Refused("no\nservice", unavailable=True),
    RunRequest(stop=False, publish=True),
    FreedSlot(0),
    StoredReports(7),
    AttemptOver(),
    Alive(),
]


def test_examples_cover_every_message() -> None:
    assert {type(message) for message in DOWN} == set(TO_LINK.values())
    assert {type(message) for message in UP} == set(TO_RANK.values())
    assert set(TO_RANK.values()) == set(get_args(messages.ToRank))
    assert len(TO_LINK) == len(DOWN)


@pytest.mark.parametrize("message", DOWN, ids=lambda message: type(message).__name__)
def test_message_to_the_link_comes_back_from_its_line(message: ToLink) -> None:
    line = encode(message)

    assert decode(line, TO_LINK) == message
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@pytest.mark.parametrize("message", UP, ids=lambda message: type(message).__name__)
def test_message_to_rank_0_comes_back_from_its_line(message: ToRank) -> None:
    assert decode(encode(message), TO_RANK) == message


def test_loss_that_is_not_a_number_comes_back() -> None:
    report = ProgressReport(7, 100, 1, math.nan, {"a": -math.inf}, 1e4, 0.0, 1.5)

    found = decode(encode(NumberedProgress(1, report)), TO_LINK)

    assert isinstance(found, NumberedProgress)
    assert math.isnan(found.progress.loss)
    assert found.progress.metrics == {"a": -math.inf}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\xff", "can't decode"),
        (b"{", "Expecting property name"),
        (b"[1]", "an object with one name"),
        (b"{}", "an object with one name"),
        (b'{"FreedSlot": {"slot": 1}, "RunRequest": {}}', "an object with one name"),
        (b'{"Free": {"slot": 1}}', "'Free': no such message; known: Registered, Refused"),
        (b'{"TrainingStarted": {"world_size": 1, "total_steps": 2}}', "no such message"),
        (b'{"FreedSlot": {"slot": "1"}}', "FreedSlot.slot: must be of type int, got '1'"),
        (b'{"FreedSlot": {}}', "FreedSlot.slot: missing"),
        (b'{"FreedSlot": {"slot": 1, "step": 2}}', "FreedSlot.step: no such field"),
        (b'{"FreedSlot": 1}', "FreedSlot: must be an object, got 1"),
    ],
)
def test_unknown_or_malformed_message_is_an_error(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(line, TO_RANK)


def test_reporter_loads_neither_grpc_nor_protobuf_nor_numpy() -> None:
    """It lives in rank 0, whose threads and locks MPI must not meet."""
    program = (
        "import dbp.link.reporter, sys; "
        "print(sorted({'grpc', 'google', 'google.protobuf', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")
