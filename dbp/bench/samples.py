"""Samples, their order and initial parameters of a workload, the same for every program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.bench.workload import CLASSES, INPUTS, SEED, TARGETS, Workload
from dbp.data.dataset import Indices
from dbp.data.sampler import batch_bounds, order
from dbp.job.spec.resolve import resolve
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.train.run_spec import run_spec

BATCHES: Final = 16  # of an epoch

Array = npt.NDArray[Any]


def write_samples(workload: Workload, folder: Path) -> None:
    """Write inputs in [0, 1) and classes as npy files.

    Each class has a mean of its own, so that the loss falls and can be compared.
    """
    rng = np.random.default_rng(SEED)
    samples = BATCHES * workload.batch_size
    targets = rng.integers(0, CLASSES, samples)
    means = rng.random((CLASSES, *workload.input_shape), np.float32)
    noise = rng.random((samples, *workload.input_shape), np.float32)
    np.save(folder / INPUTS, 0.8 * noise + np.float32(0.2) * means[targets])
    np.save(folder / TARGETS, targets)


def read_samples(folder: Path) -> tuple[Array, Array]:
    """Return inputs and classes."""
    return np.load(folder / INPUTS), np.load(folder / TARGETS)


def mini_batches(samples: int, batch_size: int, steps: int) -> Iterator[Indices]:
    """Yield the samples of each step in the order of dbp."""
    for step in range(steps):
        epoch, place = divmod(step, BATCHES)
        yield order(SEED, epoch + 1, samples).take(*batch_bounds(place, samples, batch_size))


def make_model(workload: Workload) -> Model:
    """Return the model of the workload."""
    resolved = run_spec(resolve(workload.spec("", 1, {})))
    return Model(resolved.layers, workload.input_shape, dtype="float32", loss=resolved.loss)


def initial_parameters(workload: Workload) -> dict[str, Array]:
    """Return the initial parameters by their names, as in PyTorch."""
    model = make_model(workload)
    parameters = Parameters.zeros(model.tensor_shapes, model.dtype)
    model.initialize(parameters, SEED)
    return {name: parameters[name] for name in model.tensor_shapes}
