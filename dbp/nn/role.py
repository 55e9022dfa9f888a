"""Roles of parameters: weight, bias or scale; decay and rate factors depend on them."""

from __future__ import annotations

from typing import Literal

Role = Literal["weight", "bias", "scale"]


def is_bias(name: str) -> bool:
    """Return whether the last part of a name is ``bias`` (``2.bias``)."""
    return name.rpartition(".")[2] == "bias"


def role_by_shape(name: str, shape: tuple[int, ...]) -> Role:
    """Return the default role: ``bias`` is a bias, other vectors are scales."""
    if is_bias(name):
        return "bias"
    return "scale" if len(shape) < 2 else "weight"
