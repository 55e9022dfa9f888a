"""Small jobs to check, and the findings of a check as text."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np

from dbp.data.dataset import Dataset
from dbp.nn.elementwise import Elementwise
from dbp.nn.layer import Array, Backward, Layer, Views, Workspace
from dbp.nn.model import Model
from dbp.train.build import Setup
from dbp.train.check.job_check import Finding
from tests.train.setups import document, make_setup, samples

_calls = itertools.count(1)


GRADIENTS: dict[str, Any] = {"no gradient": None, "gradient of another shape": np.zeros(3)}


@final
@dataclass(frozen=True)
class Faulty(Elementwise):
    """y = x^2 / 2 with at most one fault."""

    fault: str = ""

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = x * x / 2
        if self.fault == "mean":
            y -= y.mean(axis=0) if len(y) else 0
        if self.fault == "unseeded":
            y *= 1 + 1e-3 * np.random.default_rng().random()
        if self.fault == "calls" and x.dtype == np.float32:
            y *= 1 + 1e-4 * next(_calls)
        if self.fault == "raises":
            raise ArithmeticError("a fault of this layer")
        if self.fault == "asserts":
            raise AssertionError

        def backward(dy: Array, gradients: Views) -> Array:
            if self.fault == "asserts backward":
                raise AssertionError
            if self.fault == "mean":
                dy = dy - (dy.mean(axis=0) if len(dy) else 0)
            if self.fault in GRADIENTS:
                return cast("Array", GRADIENTS[self.fault])
            return dy * (x * 1.001 if self.fault == "slope" else x)

        return y, backward


def setup_of(*layers: Layer, data: Dataset | None = None, **train: Any) -> Setup:
    """A small job; ``layers`` stand in the middle of its model."""
    spec = document(**{"batch_size": 16, "dtype": "float32", **train})
    setup = make_setup(spec, data or samples(60))
    first, activation, last = setup.model.layers
    model = Model(
        [first, *(layers or [activation]), last],
        setup.model.input_shape,
        dtype=setup.model.dtype,
        loss=setup.model.loss,
        metrics=setup.model.metrics,
    )
    return dataclasses.replace(setup, model=model)


def failed(findings: Iterator[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.verdict == "failed"]


def texts(findings: Iterator[Finding], verdict: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.verdict == verdict)
