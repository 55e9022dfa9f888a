"""Check the samples of a job as its model gets them: finite, varying, all classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dbp.data.classes import count_classes
from dbp.data.dataset import Dataset, Indices
from dbp.data.sampler import order
from dbp.errors import InvalidData
from dbp.nn.layer import Array
from dbp.quantities import count_text
from dbp.train.build import Setup
from dbp.train.check.finding import Finding, OnProgress, ignore_progress, shape_words
from dbp.train.rows import RowReader

NAMES_SHOWN = 8


def check_data(
    setup: Setup, *, batches: int = 4, on_progress: OnProgress = ignore_progress
) -> Iterator[Finding]:
    """Check the first mini-batches of every data set, as training reads them.

    A finding fails for a value that is not finite, samples that cannot be read, and weights
    that are all 0. Warnings are the notes that training shows, training inputs or targets that
    never change, and classes that never occur.
    """
    for note in setup.notes:
        yield Finding("data", "warning", note)
    sets = {"data.train": setup.train, "data.validation": setup.validation}
    sets["data.test"] = setup.test
    for path, dataset in sets.items():
        if dataset is None:
            continue
        yield _overview(path, dataset)
        rows = min(len(dataset), batches * setup.plan.batch_size)
        if dataset is setup.train:
            chosen = order(setup.resolved.spec.seed, 1, len(dataset)).take(0, rows)
        else:
            chosen = np.arange(rows)
        yield from _look_at(path, dataset, setup, chosen, on_progress)
        if dataset.info.target_kind == "class":
            yield from _classes(path, dataset, setup)


def _overview(path: str, dataset: Dataset) -> Finding:
    info = dataset.info
    kind = "classes" if info.target_kind == "class" else f"{shape_words(info.target_shape)}"
    return Finding(
        "data",
        "ok",
        f"{path}: opened; {count_text(len(dataset), 'sample')}, inputs "
        f"{shape_words(info.input_shape)} of "
        f"{info.input_dtype}, targets {kind}",
    )


def _look_at(
    path: str, dataset: Dataset, setup: Setup, chosen: Indices, on_progress: OnProgress
) -> Iterator[Finding]:
    """Check the chosen samples, mini-batch by mini-batch."""
    size = setup.plan.batch_size
    reader = RowReader(dataset, setup.model, setup.scaling, capacity=size)
    spans: list[_Span] = []
    weight = 0.0
    for start in range(0, len(chosen), size):
        on_progress(f"reading {path}", start, len(chosen))
        own = chosen[start : start + size]
        try:
            x, target = reader.read(own)
            weights = reader.weights(own)
        except InvalidData as error:
            yield Finding("data", "failed", f"{path}: {error}")
            return
        bad = _not_finite(own, x, target, weights) or _no_id(own, x, setup)
        if bad:
            yield Finding("data", "failed", f"{path}: {bad}")
            return
        spans = spans or [_Span(x), _Span(target)]
        spans[0].widen(x)
        spans[1].widen(target)
        weight += float(len(own) if weights is None else weights.sum())
    count = f"{count_text(len(chosen), 'sample')} looked at"
    message = f"{path}: all inputs and targets of {count} are finite; inputs {spans[0].words()}"
    yield Finding("data", "ok", message)
    if weight == 0:
        yield Finding("data", "failed", f"{path}: the weights of {count} are all 0")
    if dataset is setup.train:  # constant features of the training set are useless
        yield from _constants(path, spans, count, values=dataset.info.target_kind == "values")


def _constants(path: str, spans: list[_Span], count: str, *, values: bool) -> Iterator[Finding]:
    """Yield warnings about features that never change."""
    for what, span in zip(("inputs", "targets"), spans, strict=True):
        constant, total = span.constant()
        if constant and (values or what == "inputs"):
            yield Finding(
                "data",
                "warning",
                f"{path}: {constant:,} of {total:,} {what} have the same value in all {count}",
            )


def _not_finite(own: Indices, x: Array, target: Array, weights: Array | None) -> str:
    """Describe the first sample with a value that is not finite; "" if there is none."""
    for what, array in (("an input", x), ("a target", target), ("the weight", weights)):
        if array is not None and not np.isfinite(array).all():
            rows = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            return f"sample {own[int(np.argmin(rows))]}: {what} is not finite"
    return ""


def _no_id(own: Indices, x: Array, setup: Setup) -> str:
    """Describe the first input that the first layer, one that takes ids, does not know."""
    ids = setup.model.layers[0].ids()
    if not ids:
        return ""
    rows = x.reshape(len(x), -1)
    known = (rows >= 0) & (rows < ids) & (rows == np.floor(rows))
    if known.all():
        return ""
    row = int(np.argmin(known.all(axis=1)))
    value = rows[row][~known[row]][0]
    return (
        f"sample {own[row]}: input {value:.7g} is not a whole number from 0 to {ids - 1}, as "
        "the first layer needs it"
    )


def _classes(path: str, dataset: Dataset, setup: Setup) -> Iterator[Finding]:
    """Report which of the model's classes occur, and how often."""
    outputs = setup.model.loss.class_count(setup.model.output_shape)
    counts = count_classes(dataset)
    counts = np.pad(counts, (0, max(0, outputs - len(counts))))
    present = counts[counts > 0]
    yield Finding(
        "data",
        "ok",
        f"{path}: all classes lie in 0 to {outputs - 1}; {len(present)} occur, each "
        + (f"{present.min():,} to " if present.min() < present.max() else "")
        + count_text(int(present.max()), "time"),
    )
    missing = np.flatnonzero(counts == 0)
    if missing.size:
        shown = ", ".join(map(str, missing[:NAMES_SHOWN]))
        more = f" and {missing.size - NAMES_SHOWN} more" if missing.size > NAMES_SHOWN else ""
        yield Finding("data", "warning", f"{path}: no sample is of class {shown}{more}")


class _Span:
    """Tracks the smallest and the largest value of every feature."""

    def __init__(self, rows: Array) -> None:
        self.low = np.asarray(rows.min(axis=0))
        self.high = np.asarray(rows.max(axis=0))

    def widen(self, rows: Array) -> None:
        np.minimum(self.low, rows.min(axis=0), out=self.low)
        np.maximum(self.high, rows.max(axis=0), out=self.high)

    def constant(self) -> tuple[int, int]:
        """Return the number of features with only one value so far, and of all features."""
        return int(np.count_nonzero(self.low == self.high)), int(np.size(self.low))

    def words(self) -> str:
        return f"{float(self.low.min()):.4g} to {float(self.high.max()):.4g} after scaling"
