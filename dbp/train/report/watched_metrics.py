"""Watch the metrics that stop a run or set its learning rate; explain NaN metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, final

from dbp.job.ending_text import skipped_text
from dbp.nn.metric import Metric
from dbp.train.build import Setup
from dbp.train.state.run_state import RunState
from dbp.train.stopping import Stopping

PARTS: Final = ("training", "validation", "test")


@final
class WatchedMetrics:
    """Warns once of each metric that is not a number, and reports metrics that never were."""

    def __init__(self, setup: Setup, stopping: Stopping, state: RunState) -> None:
        self._metrics = dict(setup.resolved.metrics)
        self._stopping = stopping
        self._state = state
        self._stop = setup.resolved.spec.train.stop
        self._scheduled = setup.resolved.optimizer.learning_rate.metric()
        self._warned: set[str] = set()

    def of_epoch(self, figures: Mapping[str, float], *, idle: bool) -> dict[str, float]:
        """Return the metrics that stopping and the learning rate use after an epoch.

        ``idle`` means that no update was applied in the epoch. The metrics then are NaN, as
        they do not describe any training.
        """
        if not idle:
            return dict(figures)
        names = {self._stop.metric if self._stop else "validation_loss", self._scheduled}
        return {
            name: math.nan
            for name in names
            if name is not None and (name in figures or name.startswith("training_"))
        }

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """Return a message for each metric that is not finite for the first time."""
        texts = []
        for part in PARTS:
            for name, text in undefined_figures(figures, self._metrics, f"{part}_"):
                if name not in self._warned:
                    self._warned.add(name)
                    texts.append(f"{text}. {self._remedy(name, part)}")
        return texts

    def verdict(self, figures: Mapping[str, float]) -> str:
        """Return a message on skipped mini-batches and watched metrics that were always NaN.

        ``figures`` are the newest metrics of the run. Returns "" if there is nothing to report.
        """
        skipped = skipped_text(self._state.skipped, self._state.step)
        texts = [skipped] if skipped else []
        stop = self._stop
        if stop is not None and stop.metric in figures and not self._stopping.measured:
            stops = stop.patience is not None or stop.target is not None
            effects = ["it could not stop the run"] if stops else []
            effects += ["no epoch is known to be the best"] if stop.restore_best else []
            effect = " and ".join(effects) or "it had no effect"
            texts.append(f"train.stop.metric {stop.metric} was never a number, so {effect}")
        history = self._state.history
        if history and not any(map(math.isfinite, history)):
            texts.append(
                f"optimizer.learning_rate follows {self._scheduled}, which was never a number, "
                "so the rate did not fall"
            )
        return "; ".join(texts)

    def _remedy(self, name: str, part: str) -> str:
        """Return the effect on the run, and the remedy."""
        own = f"other samples in data.{'train' if part == 'training' else part}"
        asked = []
        if self._stop and self._stop.metric == name:
            asked.append("train.stop")
        if self._scheduled == name:
            asked.append("optimizer.learning_rate")
        if asked:
            return (
                f"{' and '.join(asked)} will ignore it until it is one; choose another metric "
                f"there, or {own}"
            )
        return f"Choose {own}, or other metrics in model.metrics"


LOSS_UNDEFINED = "the loss of a sample is not finite: an output or a target is too large"


def undefined_figures(
    figures: Mapping[str, float], metrics: Mapping[str, Metric], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the name of each metric that is not finite, and a message with the reason.

    ``metrics`` are the metrics by kind. Names that do not begin with ``prefix`` are ignored.
    """
    for name, value in figures.items():
        if math.isfinite(value) or not name.startswith(prefix):
            continue
        metric = metrics.get(name.removeprefix(prefix).partition("[")[0])
        why = LOSS_UNDEFINED if metric is None else metric.undefined_where()
        yield name, f"{name} is {'not a number' if math.isnan(value) else value}: {why}"
