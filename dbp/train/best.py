"""The best epoch of a run with its parameters, both ways through a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbp.job.best import BestEpoch
from dbp.nn.layer import Array


@dataclass(frozen=True)
class Best:
    """The best epoch; ``vector``: its parameters, where the run is to restore them."""

    epoch: BestEpoch
    vector: Array | None


def best_to_json(best: Best) -> dict[str, Any]:
    """What ``best_from_json`` takes as ``position["best"]``; the vector is kept apart."""
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
    """The best epoch in a checkpoint's position.

    Positions of an older dbp hold no more of it than the stopping rule's epoch, from which its
    step follows.
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
