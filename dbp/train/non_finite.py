"""Losses and gradients that are not finite: how they are found, and what the spec says then."""

from __future__ import annotations

import math

import numpy as np

from dbp.nn.layer import Array


def is_finite(vector: Array) -> bool:
    """Whether all elements are finite: their sum is cheap, and not finite if one is not."""
    return math.isfinite(float(vector.sum())) or bool(np.isfinite(vector).all())
