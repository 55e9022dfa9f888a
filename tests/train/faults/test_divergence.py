"""Parameters that change by themselves: found before an update, and the rank named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dbp.heartbeat.phase import Heartbeat, Phase
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.report.sink import Command
from dbp.train.step import Step
from dbp.train.trainer import Trainer
from tests.train.setups import Recorder, make_setup
from tests.train.test_exact import NORMALIZED, PLAIN, data, spec_of


def on_ranks(
    size: int,
    disturb: Callable[[Communicator, Parameters], None],
    *,
    share: bool = False,
    layers: list[dict[str, Any]] = NORMALIZED,
) -> list[str]:
    """The failure of the step after one rank's memory was disturbed."""
    spec = spec_of(layers)

    def main(communicator: Communicator) -> str:
        setup = make_setup(spec, data())
        own = Parameters.zeros(setup.model.tensor_shapes, setup.model.dtype)
        step = Step(setup, own, communicator, share=share)
        step.memory.initialize(setup.initialize)
        assert (step.memory.parameters is own) != share
        assert not step.run(1, np.arange(16), Command.NONE).failure
        communicator.barrier()
        disturb(communicator, step.memory.parameters)
        communicator.barrier()
        result = step.run(2, np.arange(16, 32), Command.NONE)
        assert result.reason == "DIVERGED"
        return result.failure

    return run_threads(size, main)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_rank_whose_parameters_differ_in_one_bit_is_named_in_the_next_step(
    place: int,
) -> None:
    def flip(communicator: Communicator, parameters: Parameters) -> None:
        if communicator.rank == 2:
            parameters.vector.view(np.uint64)[place] ^= np.uint64(1)

    for failure in on_ranks(4, flip):
        assert "step 2: rank 2 has other parameters than most (of 4)" in failure


@pytest.mark.parametrize("first", [0, -2], ids=["parameters", "running statistics"])
@pytest.mark.parametrize("change", ["swap", "signs", "cancelling flips"])
def test_a_rank_whose_parameters_differ_by_changes_that_cancel_is_named(
    change: str, first: int
) -> None:
    def disturb(communicator: Communicator, parameters: Parameters) -> None:
        vector = parameters.vector
        places = [first % vector.size, first % vector.size + 1]
        assert vector[places[0]] != vector[places[1]]
        if communicator.rank != 2:
            return
        if change == "swap":
            vector[places] = vector[places[::-1]]
        elif change == "signs":
            vector[places] *= -1
        else:
            vector.view(np.uint64)[places] += np.array([1, -1]).astype(np.uint64)

    for failure in on_ranks(4, disturb):
        assert "step 2: rank 2 has other parameters than most (of 4)" in failure


def test_of_two_ranks_that_differ_neither_is_blamed() -> None:
    def flip(communicator: Communicator, parameters: Parameters) -> None:
        parameters.vector[0] += communicator.rank

    for failure in on_ranks(2, flip):
        assert "ranks 0 to 1 have different parameters" in failure


@pytest.mark.parametrize(("place", "owner"), [(0, 0), (-1, 0), (40_000, 1), (70_000, 2)])
def test_of_shared_parameters_the_rank_is_named_whose_part_has_changed(
    place: int, owner: int
) -> None:
    """The last are running statistics, which rank 0 has written."""
    layers = [{"kind": "dense", "units": 9_000}, *NORMALIZED]

    def flip(communicator: Communicator, parameters: Parameters) -> None:
        assert len(parameters) > 100_000
        if communicator.rank == 2:
            parameters.vector.view(np.uint64)[place] ^= np.uint64(1)

    for failure in on_ranks(4, flip, share=True, layers=layers):
        assert f"step 2: rank {owner} has other parameters than most (of 4)" in failure


def test_shared_parameters_that_are_not_finite_any_more_are_found_damaged() -> None:
    def spoil(communicator: Communicator, parameters: Parameters) -> None:
        if communicator.rank == 1:
            parameters.vector[0] = np.nan

    for failure in on_ranks(2, spoil, share=True):
        assert "step 2: rank 1 has other parameters than most (of 2)" in failure


def test_a_change_of_shared_parameters_in_the_course_of_a_step_is_found_before_the_update() -> (
    None
):
    class Flipping(Heartbeat):
        """Changes a parameter once the gradients of the second step are summed."""

        step = 0
        parameters: Parameters | None = None

        def begin_step(self, step: int) -> None:
            self.step = step

        def enter(self, phase: Phase) -> None:
            if self.parameters is not None and (self.step, phase) == (2, Phase.UPDATE):
                self.parameters.vector[0] += 0.5
                self.parameters = None

        def count_collective(self) -> None:
            """Nothing waits for this rank."""

    def main(communicator: Communicator) -> tuple[str, str]:
        heartbeat = Flipping()
        setup = dataclasses.replace(make_setup(spec_of(PLAIN), data()), heartbeat=heartbeat)
        own = Parameters.zeros(setup.model.tensor_shapes, setup.model.dtype)
        step = Step(setup, own, communicator, share=True)
        step.memory.initialize(setup.initialize)
        if communicator.rank == 1:  # it updates all of so few parameters
            heartbeat.parameters = step.memory.parameters
        step.run(1, np.arange(16), Command.NONE)
        result = step.run(2, np.arange(16, 32), Command.NONE)
        return result.reason, result.failure

    for reason, failure in run_threads(2, main):
        assert reason == "DIVERGED"
        assert "step 2: rank 1 has other parameters than most (of 2)" in failure


@pytest.mark.parametrize("share", [True, False])
def test_damaged_parameters_are_published_only_if_another_rank_has_a_sound_copy(
    share: bool,
) -> None:
    class Flipping:
        """Changes a parameter before the third step; of shared ones the rank's own."""

        trainer: Trainer
        polls = 0

        def poll(self) -> Command:
            self.polls += 1
            if self.polls == 3 and self.trainer.communicator.rank == (2 if share else 1):
                self.trainer.parameters.vector[0] += 0.5
            return Command.NONE

    def main(communicator: Communicator) -> tuple[str, int]:
        control, sink = Flipping(), Recorder()
        trainer = Trainer(
            make_setup(spec_of(PLAIN), data()), communicator, sink=sink, control=control
        )
        control.trainer = trainer
        outcome = trainer.run()
        return outcome.reason, sum(snapshot.final for snapshot, _ in sink.snapshots)

    found = run_threads(3, main, shares_memory=share)

    assert [reason for reason, _ in found] == ["DIVERGED"] * 3
    assert found[0][1] == (0 if share else 1)
