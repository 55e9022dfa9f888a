"""The logistic function and its cross-entropy, computed without overflow for any logits."""

from __future__ import annotations

import numpy as np

from dbp.nn.layer import Array


def stable_sigmoid(z: Array, out: Array) -> None:
    """Write 1 / (1 + exp(-z)), as (1 + tanh(z / 2)) / 2, to ``out``, of the shape of ``z``."""
    np.multiply(z, 0.5, out=out)
    np.tanh(out, out=out)
    out += 1
    out *= 0.5


def cross_entropy_terms(z: Array, target: Array, out: Array, scratch: Array) -> None:
    """Write max(z, 0) - z target + log(1 + exp(-|z|)) to ``out``; all have one shape."""
    np.abs(z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    np.maximum(z, 0, out=scratch)
    out += scratch
    np.multiply(z, target, out=scratch)
    out -= scratch
