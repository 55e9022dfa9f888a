"""Check that the last layers can produce the outputs that the loss needs.

Layers declare bounds of their outputs (``Layer.output_range``), losses the outputs they need
(``Loss.needed_range``). So a sigmoid before a loss that applies the sigmoid itself is found,
and the same mistake with other layers, plug-ins included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbp.errors import Violation
from dbp.job.spec.contracts import Range, Shape
from dbp.job.spec.resolve import ResolvedSpec

UNLIMITED: Final[Range] = (-math.inf, math.inf)


@dataclass(frozen=True)
class _Limit:
    """The layer that limits the model's outputs, and the limits."""

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
    """Return a violation for outputs limited to probabilities, or one sign, where the loss
    needs any number.
    """
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
    """Return a note for outputs narrower than the loss needs, in a way that may be intended."""
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
    """Return the layers, last first, without which the outputs are wide enough."""
    limits: list[_Limit] = []
    while too_narrow(*(ranges := _ranges(resolved, {limit.position for limit in limits}))[-1]):
        position = len(resolved.layers) - 1
        while ranges[position] == ranges[position + 1]:
            position -= 1
        kind, path = resolved.layer_kinds[position], resolved.layer_paths[position]
        limits.append(_Limit(position, kind, path, *ranges[-1]))
    return limits


def _ranges(resolved: ResolvedSpec, without: set[int]) -> list[Range]:
    """Return bounds of the inputs and of each layer's outputs; the layers in ``without`` are
    skipped.
    """
    ranges: list[Range] = [UNLIMITED]
    for position, layer in enumerate(resolved.layers):
        last = ranges[-1]
        ranges.append(last if position in without else layer.output_range(last))
    return ranges


def _remedy(limits: list[_Limit]) -> str:
    by_position = sorted(limits, key=lambda limit: limit.position)
    return "remove " + " and ".join(limit.written() for limit in by_position)


def _words(low: float, high: float) -> str:
    """Return a range as text: ``0 to 1``, ``at least 0``, ``at most 1``, ``any number``."""
    if low == -math.inf:
        return "any number" if high == math.inf else f"at most {high:g}"
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
