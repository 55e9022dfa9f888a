"""Roles of parameters: weight, bias or scale, and which running statistics are frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def frozen_state(
    parameters: Iterable[str], state: Iterable[str], freezes: Callable[[str], bool]
) -> frozenset[str]:
    """Return the names of the running statistics that training leaves unchanged.

    Those are all of a layer if ``freezes`` matches one of them, or all the layer's parameters.
    """
    parameters, state = tuple(parameters), tuple(state)
    frozen = {_owner(name) for name in state if freezes(name)}
    trained = {_owner(name) for name in parameters if not freezes(name)}
    frozen |= {_owner(name) for name in parameters} - trained
    return frozenset(name for name in state if _owner(name) in frozen)


def _owner(name: str) -> str:
    """Return the name of the layer that a parameter belongs to."""
    return name.rpartition(".")[0]
