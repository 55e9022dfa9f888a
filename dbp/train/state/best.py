"""The best epoch of a run and its parameters, converted to and from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbp.job.best import BestEpoch
from dbp.nn.layer import Array


@dataclass(frozen=True)
class Best:
    """The best epoch; ``vector`` holds its parameters if the run restores them at its end."""

    epoch: BestEpoch
    vector: Array | None


def best_to_json(best: Best) -> dict[str, Any]:
    """Return the JSON object for ``position["best"]``, without the vector."""
    return {
        "epoch": best.epoch.epoch,
        "step": best.epoch.step,
        "metrics": {
            name: value if math.isfinite(value) else repr(value)
            for name, value in best.epoch.metrics.items()
        },
    }


def best_from_json(
    position: Mapping[str, Any], vector: Array | None, steps_per_epoch: int
) -> Best | None:
    """Return the best epoch from the position of a checkpoint; None if there is none.

    A position of an older dbp contains only the epoch of the stopping rule; the step follows
    from it.
    """
    table = position.get("best")
    if table is not None:
        metrics = {name: float(value) for name, value in table["metrics"].items()}
        epoch = BestEpoch(int(table["epoch"]), int(table["step"]), metrics)
        return Best(epoch, vector)
    number = int(position["stopping"]["best_epoch"])
    if "best" in position or not number:
        return None
    return Best(BestEpoch(number, number * steps_per_epoch), vector)
