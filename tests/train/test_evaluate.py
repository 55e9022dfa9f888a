from __future__ import annotations

import numpy as np
import pytest

from dbp.data.dataset import Array, DataInfo, Dataset, Indices
from dbp.data.preprocessing import Scaling
from dbp.nn.class_counts import ClassCounts
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from dbp.train.evaluate import Evaluator
from dbp.train.rows import RowReader
from tests.train.setups import document, make_setup, samples


class Counting(Dataset):
    """Counts how often each sample is read."""

    def __init__(self, inner: Dataset) -> None:
        self.info: DataInfo = inner.info
        self.inner = inner
        self.reads = np.zeros(len(inner), np.int64)

    def take_inputs(self, indices: Indices, out: Array) -> None:
        np.add.at(self.reads, indices, 1)
        self.inner.take_inputs(indices, out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        self.inner.take_targets(indices, out)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 23, 64, 65])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_sample_counts_once_for_any_number_of_ranks(ranks: int, count: int) -> None:
    data = samples(count)
    setup = make_setup(document(), data)
    parameters = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    setup.model.initialize(parameters, 1)
    x, y = np.empty((count, 5)), np.empty(count, np.int64)
    data.take_inputs(np.arange(count), x)
    data.take_targets(np.arange(count), y)
    outputs = setup.model.forward(parameters, x).copy()
    log_p = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))

    def main(communicator: Communicator) -> tuple[dict[str, float], Array]:
        counting = Counting(data)
        model = make_setup(document(), data).model
        rows = RowReader(counting, model, Scaling(), capacity=8)
        evaluator = Evaluator(model, rows, communicator, metric_kinds=("accuracy",))
        return evaluator.run(parameters), counting.reads

    results = run_threads(ranks, main)

    figures = results[0][0]
    assert all(found == figures for found, _ in results)
    np.testing.assert_array_equal(sum(reads for _, reads in results), np.ones(count))
    assert figures["loss"] == pytest.approx(-log_p[np.arange(count), y].mean(), rel=1e-12)
    assert figures["accuracy"] == (outputs.argmax(axis=1) == y).mean()


def test_figures_are_the_same_bits_for_any_number_of_ranks() -> None:
    data = samples(301)
    setup = make_setup(document(dtype="float32"), data)
    parameters = Parameters.zeros(setup.model.parameter_shapes, np.float32)
    setup.model.initialize(parameters, 1)

    def main(communicator: Communicator) -> dict[str, float]:
        model = make_setup(document(dtype="float32"), data).model
        rows = RowReader(data, model, Scaling(), capacity=16)
        return Evaluator(model, rows, communicator, metric_kinds=("accuracy",)).run(parameters)

    runs = [run_threads(ranks, main) for ranks in (1, 2, 3, 4, 5)]

    assert len({figures["loss"] for run in runs for figures in run}) == 1


def test_a_second_evaluation_does_not_include_the_first() -> None:
    data = samples(20)
    setup = make_setup(document(), data)
    parameters = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    rows = RowReader(data, setup.model, Scaling(), capacity=8)
    evaluator = Evaluator(setup.model, rows, SoloCommunicator(), metric_kinds=("accuracy",))

    assert evaluator.run(parameters) == evaluator.run(parameters)


def test_metrics_of_several_figures_and_of_all_samples() -> None:
    data = samples(301)
    spec = document()
    kinds = ["roc_auc", "confusion_matrix", "f1"]
    spec["model"]["metrics"] = kinds

    def main(communicator: Communicator) -> dict[str, float]:
        setup = make_setup(spec, data)
        parameters = Parameters.zeros(setup.model.parameter_shapes, np.float64)
        setup.model.initialize(parameters, 1)
        rows = RowReader(data, setup.model, Scaling(), capacity=8)
        evaluator = Evaluator(setup.model, rows, communicator, metric_kinds=tuple(kinds))
        evaluator.run(parameters)
        return evaluator.run(parameters)

    alone = main(SoloCommunicator())

    assert 0 < alone["roc_auc"] < 1
    assert sum(alone[f"confusion_matrix[{i},{j}]"] for i in range(3) for j in range(3)) == 301
    assert len(alone) == 1 + 1 + 9 + 1
    assert run_threads(3, main) == [alone] * 3


@pytest.mark.parametrize("most_paired", [3, 2], ids=["by pair", "totals only"])
def test_counts_of_classes_are_those_of_all_ranks(most_paired: int) -> None:
    data = samples(301)
    x, y = np.empty((301, 5)), np.empty(301, np.int64)
    data.take_inputs(np.arange(301), x)
    data.take_targets(np.arange(301), y)

    def main(communicator: Communicator) -> Array:
        setup = make_setup(document(), data)
        parameters = Parameters.zeros(setup.model.parameter_shapes, np.float64)
        setup.model.initialize(parameters, 1)
        rows = RowReader(data, setup.model, Scaling(), capacity=8)
        counts = ClassCounts(3, most_paired=most_paired)
        evaluator = Evaluator(
            setup.model, rows, communicator, metric_kinds=("accuracy",), class_counts=counts
        )
        evaluator.run(parameters)
        figures = evaluator.run(parameters)  # the second run starts at 0
        assert counts.totals()[0].sum() == round(figures["accuracy"] * 301)
        return counts.vector

    alone = main(SoloCommunicator())

    for ranks in (2, 3, 5):
        for found in run_threads(ranks, main):
            np.testing.assert_array_equal(found, alone)
    np.testing.assert_array_equal(
        alone.reshape(3, 3).sum(axis=1) if most_paired == 3 else alone[6:], np.bincount(y)
    )
