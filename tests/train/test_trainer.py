from __future__ import annotations

from typing import Any, final

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset, Indices
from dbp.data.sampler import order
from dbp.errors import InvalidData, InvalidInput, RunDiskFull
from dbp.job.snapshot import encode_header
from dbp.nn.parameters import Parameters
from dbp.train.build import Setup
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.sink import Command, Control, Started
from tests.closeness import assert_close
from tests.train.setups import (
    Array,
    AskAt,
    Recorder,
    document,
    make_setup,
    metrics_dropped,
    run_ranks,
    samples,
)


def test_every_rank_ends_with_the_same_parameters_and_the_same_outcome() -> None:
    spec = document(epochs=3)
    data = samples(50)

    results = run_ranks(
        4, lambda: make_setup(spec, data, validation=samples(21, seed=1), test=samples(9))
    )

    outcomes = [metrics_dropped(outcome) for outcome, _ in results]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert {vector.tobytes() for _, vector in results} == {results[0][1].tobytes()}
    assert {"training_loss", "validation_accuracy", "test_loss"} <= outcomes[0].metrics.keys()


@pytest.mark.parametrize("asking", [0, 1, 2])
def test_a_stop_that_any_rank_asks_for_takes_effect_on_all_at_the_same_step(
    asking: int,
) -> None:
    recorder = Recorder()

    def control(rank: int) -> Control | None:
        return AskAt(5, Command.STOP) if rank == asking else None

    results = run_ranks(
        3, lambda: make_setup(document(epochs=9), samples(50)), control=control, sink=recorder
    )

    for outcome, _ in results:
        assert (outcome.status, outcome.reason, outcome.step) == (
            "stopped",
            "stop_requested",
            5,
        )
    [(snapshot, vector)] = [s for s in recorder.snapshots if s[0].final]
    assert snapshot.step == 5
    assert {v.tobytes() for _, v in results} == {vector.tobytes()}
    assert [outcome.status for outcome in recorder.outcomes] == ["stopped"]


def test_a_stop_requested_at_the_last_step_has_no_effect() -> None:
    control = AskAt(7, Command.STOP)

    [(outcome, _)] = run_ranks(
        1, lambda: make_setup(document(epochs=1), samples(50)), control=lambda _: control
    )

    assert (outcome.status, outcome.reason, outcome.step) == ("succeeded", "epochs", 7)


def test_a_requested_version_is_published_after_the_same_step() -> None:
    recorder = Recorder()
    spec = document(epochs=1) | {"publish": {"every_steps": 1000}}

    run_ranks(
        2,
        lambda: make_setup(spec, samples(50)),
        control=lambda rank: AskAt(3, Command.PUBLISH) if rank == 0 else None,
        sink=recorder,
    )

    assert [(s.step, s.final) for s, _ in recorder.snapshots] == [(3, False), (7, True)]


def test_versions_come_every_so_many_steps_and_can_be_loaded() -> None:
    recorder = Recorder()
    spec = document(epochs=1) | {"publish": {"every_steps": 3}}

    run_ranks(1, lambda: make_setup(spec, samples(50)), sink=recorder)

    assert [s.step for s, _ in recorder.snapshots] == [3, 6, 7]
    snapshot, vector = recorder.snapshots[1]
    content = encode_header(snapshot.manifest) + vector.tobytes()
    saved = TrainedModel.from_bytes(content, "version")
    np.testing.assert_array_equal(saved.parameters.vector, vector)
    assert saved.metadata["dbp.step"] == "6"


@pytest.mark.parametrize(
    ("length", "steps", "epochs", "reason"),
    [
        ({"epochs": 2, "steps": None}, 14, 2, "epochs"),
        ({"epochs": None, "steps": 10}, 10, 2, "steps"),
        ({"epochs": 2, "steps": 5}, 5, 1, "steps"),
        ({"epochs": 1, "steps": 500}, 7, 1, "epochs"),
        ({"epochs": None, "steps": 7}, 7, 1, "steps"),
    ],
)
def test_a_run_ends_with_its_epochs_or_its_steps_whichever_come_first(
    length: dict[str, Any], steps: int, epochs: int, reason: str
) -> None:
    spec = document()
    spec["train"] = {n: v for n, v in (spec["train"] | length).items() if v is not None}
    recorder = Recorder()

    [(outcome, _)] = run_ranks(1, lambda: make_setup(spec, samples(50)), sink=recorder)

    assert (outcome.step, outcome.epoch, outcome.reason) == (steps, epochs, reason)
    ends = [report for report in recorder.reports if report.epoch_end]
    assert [report.epoch for report in ends] == list(range(1, epochs + 1))
    assert ends[-1].step == steps
    [started] = recorder.starts
    assert (started.total_steps, started.steps_per_epoch) == (steps, 7)


def test_a_run_stops_when_the_validation_loss_no_longer_falls() -> None:
    stop = {"metric": "validation_loss", "patience": 2, "tolerance": 10.0}
    spec = document(epochs=50, stop=stop)
    spec["data"]["validation"] = {"fraction": 0.5}

    [(outcome, _), _] = run_ranks(
        2, lambda: make_setup(spec, samples(50), validation=samples(20, seed=4))
    )

    # The first epoch is the best by definition; no later one is better by as much as 10.
    assert (outcome.status, outcome.reason, outcome.epoch) == ("succeeded", "converged", 3)


def test_a_run_stops_once_its_target_is_reached() -> None:
    spec = document(epochs=200, stop={"metric": "training_accuracy", "target": 0.8})

    [(outcome, _), _] = run_ranks(2, lambda: make_setup(spec, samples(50)))

    assert outcome.reason == "target"
    assert outcome.metrics["training_accuracy"] >= 0.8
    assert 1 < outcome.epoch < 200


def test_validation_comes_every_so_many_epochs_and_after_the_last() -> None:
    recorder = Recorder()
    spec = document(epochs=5, evaluate_every_epochs=2)

    run_ranks(
        1, lambda: make_setup(spec, samples(20), validation=samples(9, seed=3)), sink=recorder
    )

    seen = [r.metrics.get("validation_loss") for r in recorder.reports if r.epoch_end]
    assert seen[0] is None
    assert seen[1] == seen[2] != seen[3] != seen[4]


def test_epoch_ends_are_reported_however_fast_they_come() -> None:
    recorder = Recorder()

    run_ranks(1, lambda: make_setup(document(epochs=60), samples(8)), sink=recorder)

    ends = [report.epoch for report in recorder.reports if report.epoch_end]
    assert ends == list(range(1, 61))


def test_the_reported_training_loss_is_the_mean_over_the_epochs_samples() -> None:
    recorder = Recorder()
    spec = document(batch_size=50, epochs=1)
    setup = make_setup(spec, samples(50))

    run_ranks(3, lambda: make_setup(spec, samples(50)), sink=recorder)

    start = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    setup.model.initialize(start, 5)
    x, y = np.empty((50, 5)), np.empty(50, np.int64)
    setup.train.take_inputs(np.arange(50), x)
    setup.train.take_targets(np.arange(50), y)
    setup.model.forward(start, x)
    [report] = recorder.reports
    assert report.metrics["training_loss"] == pytest.approx(setup.model.loss_sum(y) / 50)
    assert report.loss == report.metrics["training_loss"]


def test_ranks_with_another_spec_refuse_to_begin_and_name_the_difference() -> None:
    counter = iter(range(2))

    def make() -> Any:
        return make_setup(document(seed=next(counter)), samples(20))

    with pytest.raises(InvalidInput, match="rank 1 has another spec than rank 0"):
        run_ranks(2, make)


def test_ranks_with_other_data_refuse_to_begin_and_name_the_difference() -> None:
    counter = iter((20, 21))

    def make() -> Any:
        return make_setup(document(), samples(next(counter)))

    with pytest.raises(InvalidInput, match="rank 1 has another number of samples than rank 0"):
        run_ranks(2, make)


class Refusing(Recorder):
    """A sink of a run whose folder cannot be written."""

    def __init__(self, error: InvalidInput) -> None:
        super().__init__()
        self._error = error

    def started(self, started: Started) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RunDiskFull("no space"), "NOT_WRITTEN"), (InvalidInput("no"), "INVALID_DATA")],
)
def test_a_full_disk_at_the_start_is_no_fault_of_the_data(
    error: InvalidInput, reason: str
) -> None:
    outcomes = run_ranks(2, lambda: make_setup(document(), samples(20)), sink=Refusing(error))

    assert [outcome.reason for outcome, _ in outcomes] == [reason, reason]


@pytest.mark.parametrize("target_shape", [(), (1,), (2,)])
def test_a_linear_model_finds_the_least_squares_solution(target_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(40, 3))
    y = rng.normal(size=(40, *target_shape))
    outputs = target_shape[0] if target_shape else 1
    spec = document(
        loss="mean_squared_error", batch_size=40, epochs=2000,
        optimizer={"kind": "sgd", "learning_rate": 0.1},
    )  # fmt: skip
    spec["model"]["layers"] = [{"kind": "dense", "units": outputs}]
    with_ones = np.hstack([x, np.ones((40, 1))])
    expected = np.linalg.lstsq(with_ones, y.reshape(40, outputs), rcond=None)[0].T

    (outcome, vector), *_ = run_ranks(3, lambda: make_setup(spec, arrays(x, y)))

    found = np.hstack([vector[: 3 * outputs].reshape(outputs, 3), vector[3 * outputs :, None]])
    assert_close(found, expected, 1e-8)
    assert "training_mean_absolute_error" in outcome.metrics


class Damaged(Dataset):
    """A data set with one sample that cannot be read."""

    def __init__(self, dataset: Dataset, index: int) -> None:
        self.info = dataset.info
        self._dataset = dataset
        self._index = index

    def take_inputs(self, indices: Indices, out: Array) -> None:
        if self._index in indices:
            raise InvalidData(f"sample {self._index}: nan")
        self._dataset.take_inputs(indices, out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        self._dataset.take_targets(indices, out)


@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_a_sample_that_cannot_be_read_ends_every_rank_alike_after_the_last_good_step(
    numerics: str,
) -> None:
    spec = document(batch_size=6, numerics=numerics, lanes=6)
    chosen = int(order(5, 1, 30).take(0, 30)[2 * 6 + 2])  # rank 1's in the third mini-batch
    recorder = Recorder()

    results = run_ranks(
        3, lambda: make_setup(spec, Damaged(samples(30), chosen)), sink=recorder
    )

    for outcome, _ in results:
        assert (outcome.status, outcome.reason, outcome.step) == ("failed", "INVALID_DATA", 2)
        assert outcome.message == f"on rank 1: sample {chosen}: nan"
    ((snapshot, vector),) = ((s, v) for s, v in recorder.snapshots if s.final)
    assert snapshot.step == 2
    np.testing.assert_array_equal(vector, results[2][1])
    assert len(recorder.outcomes) == 1


@final
class DamagedOnce(Dataset):
    """A data set whose sample cannot be read the first time, as on a bad network."""

    def __init__(self, dataset: Dataset, index: int) -> None:
        self.info = dataset.info
        self._dataset = dataset
        self._index = index
        self._failed = False

    def take_inputs(self, indices: Indices, out: Array) -> None:
        if self._index in indices and not self._failed:
            self._failed = True
            raise InvalidData(f"sample {self._index}: input/output error")
        self._dataset.take_inputs(indices, out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        self._dataset.take_targets(indices, out)


@pytest.mark.parametrize("once", [False, True], ids=["always", "once"])
@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_unreadable_sample_ends_the_run_whatever_non_finite_says(
    ranks: int, policy: str, once: bool
) -> None:
    spec = document(batch_size=6, numerics="exact", lanes=6, non_finite=policy)
    chosen = int(order(5, 1, 30).take(0, 30)[2 * 6 + 2])  # in the third mini-batch
    damaged = DamagedOnce if once else Damaged

    results = run_ranks(ranks, lambda: make_setup(spec, damaged(samples(30), chosen)))

    for outcome, _ in results:
        assert (outcome.status, outcome.reason, outcome.step) == ("failed", "INVALID_DATA", 2)
        assert f"sample {chosen}: " in outcome.message


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_bad_sample_met_in_an_evaluation_ends_every_rank_alike(part: str) -> None:
    spec = document(batch_size=10, epochs=1)
    recorder = Recorder()

    def make() -> Setup:
        damaged = Damaged(samples(600), 599)  # the third block, the last rank's
        if part == "test":
            return make_setup(spec, samples(30), test=damaged)
        return make_setup(spec, samples(30), validation=damaged)

    results = run_ranks(3, make, sink=recorder)

    for outcome, _ in results:
        assert (outcome.status, outcome.reason, outcome.step) == ("failed", "INVALID_DATA", 3)
        assert outcome.message == "on rank 2: sample 599: nan"
    assert [snapshot.step for snapshot, _ in recorder.snapshots if snapshot.final] == [3]
