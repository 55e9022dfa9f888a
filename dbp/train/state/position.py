"""The JSON objects of a checkpoint: the position of a run, its facts, and its best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from dbp.job.best import BestEpoch
from dbp.json_value import JsonObject
from dbp.nn.layer import Array
from dbp.train.report.figures import FiguresState
from dbp.train.stopping import StoppingState


class BestState(TypedDict):
    """The best epoch; a metric that is not finite is a text such as ``"nan"``."""

    epoch: int
    step: int
    metrics: dict[str, float | str]


class Position(TypedDict):
    """The state of a run other than vectors; older versions wrote fewer keys.

    ``open_epoch`` holds loss sum, weight and learning rate of the last step of an epoch that
    is not evaluated yet. A number that is not finite is a text such as ``"nan"``.
    """

    figures: FiguresState
    stopping: StoppingState
    rate_factor: float
    rollbacks: int
    rolled_back_to: NotRequired[int]
    applied_steps: NotRequired[int]
    skips_in_a_row: NotRequired[int]
    history: list[float | str]
    history_epochs: NotRequired[list[int]]
    seconds: float
    open_epoch: list[float | str] | None
    best: NotRequired[BestState | None]


class Identity(TypedDict):
    """The identity of a data set; a block is its first row, the row after it, its digest."""

    samples: int
    input_shape: list[int]
    input_dtype: str
    target_shape: list[int]
    target_kind: str
    weighted: bool
    input_names: list[str]
    class_names: list[str]
    blocks: list[tuple[int, int, str]]


class Facts(TypedDict, total=False):
    """Spec, data and length of the run that wrote a checkpoint; older versions wrote fewer.

    ``new_data_at`` lists the steps after which the run continued on other data.
    """

    spec: JsonObject
    data: Mapping[str, Identity]
    new_data_at: list[int]
    total_steps: int


@dataclass(frozen=True)
class Best:
    """The best epoch; ``vector`` holds its parameters if the run restores them at its end."""

    epoch: BestEpoch
    vector: Array | None


def best_to_json(best: Best) -> BestState:
    """Return the JSON object for ``position["best"]``, without the vector."""
    return {
        "epoch": best.epoch.epoch,
        "step": best.epoch.step,
        "metrics": {name: plain(value) for name, value in best.epoch.metrics.items()},
    }


def best_from_json(
    position: Position, vector: Array | None, steps_per_epoch: int
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


def plain(value: float) -> float | str:
    """Return a number as strict JSON can represent it."""
    return value if math.isfinite(value) else repr(value)
