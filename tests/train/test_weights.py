"""Sample weights through the step and the evaluation, on any number of ranks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.nn.parameters import Parameters
from dbp.train.report.figures import Figures
from tests.closeness import assert_close
from tests.train.setups import Recorder, document, make_setup, run_ranks

STEPS = 12


def weighted() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(8)
    weights = rng.uniform(0, 3, 48)
    weights[::7] = 0.0
    return rng.normal(size=(48, 5)), rng.integers(0, 3, 48), weights


def spec_of() -> dict[str, Any]:
    return document(numerics="exact", batch_size=48, epochs=STEPS)


def test_weighted_training_equals_pytorchs_weighted_mean_on_any_number_of_ranks() -> None:
    x, y, w = weighted()
    setup = make_setup(spec_of(), arrays(x, y, weights=w))
    start = Parameters.zeros(setup.model.parameter_shapes, np.float64)
    setup.model.initialize(start, 5)
    network = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    ).double()
    network.load_state_dict({name: torch.tensor(view) for name, view in start.views.items()})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(
            network(torch.tensor(x)), torch.tensor(y), reduction="none"
        )
        loss: Any = (losses * torch.tensor(w)).sum() / w.sum()
        loss.backward()
        optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()

    runs = [
        run_ranks(n, lambda: make_setup(spec_of(), arrays(x, y, weights=w))) for n in (1, 3)
    ]

    for run in runs:
        assert_close(run[0][1], expected, 1e-12)
    assert runs[0][0][1].tobytes() == runs[1][0][1].tobytes()


def test_a_sample_of_weight_zero_counts_for_nothing() -> None:
    x, y, w = weighted()
    kept = w > 0

    def train(data: Any) -> Any:
        spec = document(batch_size=48, epochs=STEPS)
        outcome, vector = run_ranks(2, lambda: make_setup(spec, data, validation=data))[0]
        return outcome.metrics, vector

    all_metrics, whole = train(arrays(x, y, weights=w))
    metrics, part = train(arrays(x[kept], y[kept], weights=w[kept]))

    assert_close(whole, part, 1e-12)
    for name in ("validation_loss", "validation_accuracy", "training_loss"):
        np.testing.assert_allclose(all_metrics[name], metrics[name], rtol=1e-12)


def test_an_epoch_without_weight_has_no_training_loss() -> None:
    """The only sample that counts stands in the short mini-batch, which is dropped."""
    x, y, _ = weighted()
    spec = document(batch_size=32, epochs=1, last_batch="drop")
    weights = np.zeros(48)
    weights[order(spec["seed"], 1, 48).take(40, 41)] = 1.0
    recorder = Recorder()

    runs = run_ranks(2, lambda: make_setup(spec, arrays(x, y, weights=weights)), sink=recorder)

    outcome, vector = runs[0]
    assert outcome.status == "succeeded"
    assert not [name for name in outcome.metrics if name.startswith("training_")]
    assert math.isnan(recorder.reports[-1].loss)
    assert np.isfinite(vector).all()


def test_mini_batches_without_weight_count_as_applied_after_a_resume() -> None:
    setup = make_setup(spec_of(), arrays(*weighted()[:2]))
    figures, resumed = (Figures(setup.model, setup.metric_kinds) for _ in range(2))
    figures.add_batch(0.0, 0.0, np.zeros(sum(setup.model.metric_sizes)))
    figures.skip_batch()

    resumed.restore(figures.state())

    assert not resumed.idle
