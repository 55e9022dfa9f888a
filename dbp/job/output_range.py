"""Whether the last layers leave the model's outputs the values that the loss needs.

Layers bound their outputs (``Layer.output_range``), losses say which outputs they need
(``Loss.needed_range``): a sigmoid before a loss that applies the sigmoid itself is found, and
so is the same mistake made with other layers, plug-ins included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbp.errors import Violation
from dbp.job.resolved import ResolvedSpec

Range = tuple[float, float]
Shape = tuple[int, ...]

UNLIMITED: Final[Range] = (-math.inf, math.inf)


@dataclass(frozen=True)
class _Limit:
    """The layer that limits the model's outputs, and to which values."""

    position: int
    kind: str
    path: str
    low: float
    high: float

    def text(self) -> str:
        return f"{self.kind} limits the outputs of the model to {_words(self.low, self.high)}"

    def written(self) -> str:
        layer, _, inner = self.path.rpartition(".")
        return f"activation from {layer}" if inner == "activation" else self.path


def range_violation(resolved: ResolvedSpec, output_shape: Shape) -> Violation | None:
    """Outputs that are probabilities, or of one sign, where the loss needs any number."""
    needed = resolved.loss.needed_range(output_shape)
    if needed is None:
        return None
    least, most = needed
    limits = _limits(
        resolved,
        lambda low, high: (low >= 0 and high <= 1) or (least < 0 <= low) or (high <= 0 < most),
    )
    if not limits:
        return None
    loss = resolved.spec.model.loss.kind
    if function := resolved.loss.activation():
        reason = f"{loss} applies the {function} itself and needs the values before it"
    else:
        reason = f"{loss} needs scores of any size"
    message = f"{reason}, but {limits[0].text()}; {_remedy(limits)}"
    if function:
        message += f" (predictions are still those of the {function})"
    return Violation(limits[0].path, message)


def range_note(resolved: ResolvedSpec, output_shape: Shape) -> Violation | None:
    """Outputs limited to less than the loss needs, in a way that can be meant."""
    needed = resolved.loss.needed_range(output_shape)
    if needed is None:
        return None
    least, most = needed
    limits = _limits(resolved, lambda low, high: low > least or high < most)
    if not limits:
        return None
    loss = resolved.spec.model.loss.kind
    takes = "any number" if most == math.inf else _words(*needed)
    message = (
        f"{limits[0].text()}, but {loss} takes {takes}: it cannot reach small losses; "
        f"{_remedy(limits)} unless this is meant"
    )
    return Violation(limits[0].path, message)


def _limits(resolved: ResolvedSpec, too_narrow: Callable[[float, float], bool]) -> list[_Limit]:
    """The layers, last first, without which the model's outputs are wide enough."""
    limits: list[_Limit] = []
    while too_narrow(*(ranges := _ranges(resolved, {limit.position for limit in limits}))[-1]):
        position = len(resolved.layers) - 1
        while ranges[position] == ranges[position + 1]:
            position -= 1
        kind, path = resolved.layer_kinds[position], resolved.layer_paths[position]
        limits.append(_Limit(position, kind, path, *ranges[-1]))
    return limits


def _ranges(resolved: ResolvedSpec, without: set[int]) -> list[Range]:
    """Bounds of the inputs, and of the outputs of each layer; some layers are left out."""
    ranges: list[Range] = [UNLIMITED]
    for position, layer in enumerate(resolved.layers):
        last = ranges[-1]
        ranges.append(last if position in without else layer.output_range(last))
    return ranges


def _remedy(limits: list[_Limit]) -> str:
    by_position = sorted(limits, key=lambda limit: limit.position)
    return "remove " + " and ".join(limit.written() for limit in by_position)


def _words(low: float, high: float) -> str:
    """``0 to 1``, ``at least 0``, ``at most 1``, ``any number``."""
    if low == -math.inf:
        return "any number" if high == math.inf else f"at most {high:g}"
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
