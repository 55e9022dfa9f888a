"""A run that a service resumes publishes the versions of an undisturbed run, each once."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import DataChanged
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.report.sink import Command, Control
from dbp.train.state.continuation import Terms
from dbp.train.trainer import Trainer
from tests.train.setups import Array, AskAt, Recorder, document, make_setup
from tests.train.test_resume import KillAt, KilledError, data, poisoned, spec_of, train

Key = tuple[int, int, bool]


def rolling_back() -> dict[str, Any]:
    """A spec whose run returns to checkpoints three times, and then fails."""
    spec = document(dtype="float32", numerics="exact", batch_size=16, epochs=3)
    spec["model"]["layers"] = [{"kind": "dense", "units": 3}]
    spec["train"]["non_finite"] = "rollback"
    spec["checkpoint"] = {"every_steps": 2}
    spec["publish"] = {"every_steps": 1}
    return spec


def part(
    folder: Path, *, resume: bool | Terms = False, control: Control | None = None
) -> tuple[Recorder, bool]:
    """One process's life, and whether it was killed."""
    sink = Recorder()

    def main(communicator: Communicator) -> None:
        setup = make_setup(rolling_back(), poisoned(42))
        trainer = Trainer(
            setup, communicator, checkpoints=folder, resume=resume, sink=sink, control=control
        )
        trainer.run()

    try:
        run_threads(1, main)
    except KilledError:
        return sink, True
    return sink, False


def published(sink: Recorder) -> list[tuple[Key, Array]]:
    """Roll-backs, step and finality of each version, with its bits."""
    return [
        ((int(s.manifest.metadata.get("dbp.rollbacks", "0")), s.step, s.final), vector)
        for s, vector in sink.snapshots
    ]


@functools.cache
def undisturbed_versions(folder: Path) -> list[tuple[Key, bytes]]:
    sink, _ = part(folder)
    return [(key, vector.tobytes()) for key, vector in published(sink)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Key, bytes]]:
    return undisturbed_versions(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("polls", range(0, 40, 3))
def test_the_parts_of_a_killed_run_publish_one_chain(
    tmp_path: Path, whole: list[tuple[Key, bytes]], polls: int
) -> None:
    first, killed = part(tmp_path, control=KillAt(polls))
    chain = published(first)
    newest = chain[-1][0][:2] if chain else (0, 0)

    if killed:
        second, _ = part(tmp_path, resume=Terms(unattended=True, published=newest))
        chain += published(second)

    assert [(key, vector.tobytes()) for key, vector in chain] == whole


def test_a_service_starts_over_if_all_checkpoints_are_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(1, tmp_path, control=AskAt(10, Command.STOP))
    for manifest in tmp_path.glob("step-*/manifest.json"):
        manifest.write_text("{}")

    with caplog.at_level(logging.WARNING, "dbp"):
        outcome, vector = train(2, tmp_path, resume=Terms(unattended=True))

    assert "damaged" in caplog.text
    assert outcome.status == "succeeded"
    assert vector.tobytes() == train(1, None)[1].tobytes()


def test_other_data_are_named_as_such_on_every_rank(tmp_path: Path) -> None:
    train(1, tmp_path, control=AskAt(10, Command.STOP))

    def main(communicator: Communicator) -> None:
        setup = make_setup(spec_of(), data(74), validation=data(20))
        with pytest.raises(DataChanged, match="74 rows; the checkpoint") as caught:
            Trainer(setup, communicator, checkpoints=tmp_path, resume=Terms(unattended=True))
        assert str(caught.value).endswith("\nrestore the data")

    run_threads(2, main)
