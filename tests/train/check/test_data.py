"""The check of data: inputs that are not finite or out of range, constant inputs, weights."""

from __future__ import annotations

import dataclasses
import re
from typing import final

import numpy as np

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.nn.embedding import Embedding
from dbp.nn.layer import Array
from dbp.nn.model import Model
from dbp.train.check.data import check_data
from dbp.train.check.job_check import check_job
from tests.train.check.setups import failed, setup_of, texts


@final
class Unchecked(Dataset):
    """A data set whose rows were never checked, as a plug-in may return it."""

    def __init__(self, inputs: Array, targets: Array) -> None:
        self.info = arrays(np.zeros_like(inputs), targets).info
        self._inputs = inputs
        self._targets = targets

    def take_inputs(self, indices: Array, out: Array) -> None:
        out[...] = self._inputs[indices]

    def take_targets(self, indices: Array, out: Array) -> None:
        out[...] = self._targets[indices]


def test_inputs_that_are_not_finite_are_named() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    x[17, 2] = np.nan

    found = failed(check_data(setup_of(data=Unchecked(x, rng.integers(0, 3, 60)))))

    assert found == ["data.train: sample 17: an input is not finite"]


def test_inputs_that_an_embedding_does_not_know_are_named() -> None:
    ids = np.tile(np.array([[0.0, 3.0], [2.0, 1.0], [4.0, 0.0]]), (4, 1))
    data = arrays(ids, np.arange(12) % 3)
    setup = setup_of(data=data)
    model = Model(
        [Embedding(count=4, dimension=3), *setup.model.layers], (2,), dtype="float32",
        loss=setup.model.loss, metrics=[],
    )  # fmt: skip
    setup = dataclasses.replace(setup, model=model)

    in_data, in_gradient, in_lanes = failed(check_job(setup))

    assert re.fullmatch(
        r"data\.train: sample (2|5|8|11): input 4 is not a whole number from 0 to 3, as the "
        "first layer needs it",
        in_data,
    )
    for text in (in_gradient, in_lanes):
        assert (
            "Are all inputs whole numbers from 0 to 3, as the first layer needs them?" in text
        )


def test_constant_inputs_and_classes_that_never_occur_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    x[:, [1, 3]] = 0.5

    findings = list(check_data(setup_of(data=arrays(x, rng.integers(0, 2, 60)))))

    assert failed(iter(findings)) == []
    warnings = texts(iter(findings), "warning")
    assert "2 of 5 inputs have the same value in all 60 samples" in warnings
    assert "no sample is of class 2" in warnings
    assert "all classes lie in 0 to 2; 2 occur" in texts(iter(findings), "ok")


def test_weights_that_are_all_zero_fail() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)

    found = failed(check_data(setup_of(data=arrays(x, y, weights=np.zeros(60)))))

    assert found == ["data.train: the weights of 60 samples looked at are all 0"]
