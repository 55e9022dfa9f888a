"""The best epoch of a run, by the metric of its stopping rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dbp.json_value import JsonObject

# Metric that selects the best epoch of a spec without train.stop.
DEFAULT_METRIC: Final = "validation_loss"


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch, its last step, and the metrics measured after that step."""

    epoch: int
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)


def watched_metric(document: JsonObject) -> str:
    """Return the metric by which epochs of this spec (in document form) are compared."""
    stop = stop_table(document)
    return str(stop.get("metric", DEFAULT_METRIC)) if stop else DEFAULT_METRIC


def restores_best(document: JsonObject) -> bool:
    """Whether a run of this spec ends with the parameters of its best epoch."""
    return bool(stop_table(document).get("restore_best", False))


def best_text(best: BestEpoch, document: JsonObject, *, restored: bool) -> str:
    """Return text for users: "best: epoch 15, validation_loss 0.0840 (restored)"."""
    metric = watched_metric(document)
    value = f", {metric} {best.metrics[metric]:.4f}" if metric in best.metrics else ""
    text = f"best: epoch {best.epoch:,}{value}"
    return f"{text} (restored)" if restored else text


def stop_table(document: JsonObject) -> JsonObject:
    """Return ``train.stop`` of a spec in document form; empty where it has none."""
    train = document.get("train")
    stop = train.get("stop") if isinstance(train, Mapping) else None
    return stop if isinstance(stop, Mapping) else {}
