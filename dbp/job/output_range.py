"""Whether the last layers leave the model's outputs the values that the loss needs.

Layers bound their outputs (``Layer.output_range``), losses say which outputs they need
(``Loss.needed_range``): a sigmoid before a loss that applies the sigmoid itself is found, and
so is the same mistake made with other layers, plug-ins included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dbp.errors import Violation
from dbp.job.resolved import ResolvedSpec

Range = tuple[float, float]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Limit:
    """The layer that limits the model's outputs, and to which values."""

    kind: str
    path: str
    low: float
    high: float

    def text(self) -> str:
        return f"{self.kind} limits the outputs of the model to {_words(self.low, self.high)}"

    def remedy(self) -> str:
        layer, _, inner = self.path.rpartition(".")
        if inner == "activation":
            return f"remove activation from {layer}"
        return f"remove {self.path}"


def range_violation(resolved: ResolvedSpec, output_shape: Shape) -> Violation | None:
    """Outputs that are probabilities, or of one sign, where the loss needs any number."""
    needed = resolved.loss.needed_range(output_shape)
    if needed is None:
        return None
    low, high = _ranges(resolved)[-1]
    probabilities = low >= 0 and high <= 1
    one_sign = (needed[0] < 0 <= low) or (high <= 0 < needed[1])
    if not (probabilities or one_sign):
        return None
    limit = _limit(resolved)
    loss = resolved.spec.model.loss.kind
    if function := resolved.loss.activation():
        reason = f"{loss} applies the {function} itself and needs the values before it"
    else:
        reason = f"{loss} needs scores of any size"
    message = f"{reason}, but {limit.text()}; {limit.remedy()}"
    if function:
        message += f" (predictions are still those of the {function})"
    return Violation(limit.path, message)


def range_note(resolved: ResolvedSpec, output_shape: Shape) -> Violation | None:
    """Outputs limited to less than the loss needs, in a way that can be meant."""
    needed = resolved.loss.needed_range(output_shape)
    low, high = _ranges(resolved)[-1]
    if needed is None or (low <= needed[0] and needed[1] <= high):
        return None
    limit = _limit(resolved)
    loss = resolved.spec.model.loss.kind
    message = (
        f"{limit.text()}, but {loss} takes {_words(*needed)}: it cannot reach small losses; "
        f"{limit.remedy()} unless this is meant"
    )
    return Violation(limit.path, message)


def _ranges(resolved: ResolvedSpec) -> list[Range]:
    """Bounds of the inputs, and of the outputs of each layer."""
    ranges: list[Range] = [(-math.inf, math.inf)]
    for layer in resolved.layers:
        ranges.append(layer.output_range(ranges[-1]))
    return ranges


def _limit(resolved: ResolvedSpec) -> _Limit:
    """The last layer that changes the bounds."""
    ranges = _ranges(resolved)
    position = len(resolved.layers) - 1
    while position > 0 and ranges[position] == ranges[position + 1]:
        position -= 1
    low, high = ranges[-1]
    kind, path = resolved.layer_kinds[position], resolved.layer_paths[position]
    return _Limit(kind, path, low, high)


def _words(low: float, high: float) -> str:
    """``0 to 1``, ``at least 0``, ``at most 1``, ``any number``."""
    if low == -math.inf:
        return "any number" if high == math.inf else f"at most {high:g}"
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
