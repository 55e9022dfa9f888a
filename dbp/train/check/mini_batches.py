"""Check that mini-batches can be averaged: enough values, few enough for float32, a weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from dbp.data.dataset import Dataset
from dbp.errors import InvalidData, InvalidSpec, Violation
from dbp.job.spec.job_spec import TrainSpec
from dbp.job.spec.shapes import ModelShapes
from dbp.nn.batch_norm import LEAST_VALUES
from dbp.nn.model import Model
from dbp.nn.role import frozen_state
from dbp.quantities import count_text
from dbp.train.plan import make_plan
from dbp.train.run_spec import RunSpec

# Largest count that is exact in float32, the type of the exchange.
MOST_IN_FLOAT32: Final = 2**24

FEW_VALUES: Final = 8  # with fewer the variance is mostly noise


def check_mini_batches(resolved: RunSpec, shapes: ModelShapes, samples: int) -> None:
    """Raise InvalidSpec with all violations, for ``samples`` training samples."""
    train = resolved.spec.train
    violations = []
    if train.last_batch == "drop" and samples < train.batch_size:
        message = (
            f'"drop" leaves no mini-batch: batch_size is {train.batch_size}, but the set has '
            f"{count_text(samples, 'training sample')}; choose a smaller train.batch_size, or "
            'last_batch = "keep"'
        )
        violations.append(Violation("train.last_batch", message))
    rows = min(train.batch_size, samples)
    if train.dtype == "float32" and rows > MOST_IN_FLOAT32:
        message = (
            f"float32 counts at most {MOST_IN_FLOAT32:,} samples of a mini-batch exactly, got "
            f'{rows:,}; choose a smaller batch_size, or train.dtype = "float64"'
        )
        violations.append(Violation("train.batch_size", message))
    largest = -(-rows // train.accumulate)
    for path, kind, values in _statistics(resolved, shapes):
        if largest * values < LEAST_VALUES:
            message = (
                f"{kind}: a mini-batch{_parts(train.accumulate)} has "
                f"{count_text(largest * values, 'value')} of each channel, of which there is "
                f"no variance; {_least(train, samples)}"
            )
            violations.append(Violation(path, message))
    if violations:
        raise InvalidSpec(violations)


def mini_batch_notes(
    resolved: RunSpec, shapes: ModelShapes, samples: int
) -> Iterator[Violation]:
    """Yield notes on layers whose statistics use few values in some mini-batch."""
    train = resolved.spec.train
    plan = make_plan(train, samples)
    start, stop = plan.batch_of(min(plan.steps_per_epoch, plan.total_steps))
    shortest = stop - start
    smallest = max(1, shortest // train.accumulate)
    for path, kind, values in _statistics(resolved, shapes):
        count = smallest * values
        if count >= FEW_VALUES:
            continue
        message = (
            f"{kind}: the last mini-batch of an epoch has {count_text(shortest, 'row')}"
            if shortest < min(train.batch_size, samples)
            else f"{kind}: a mini-batch has {count_text(shortest, 'row')}"
        )
        if train.accumulate > 1:
            message += f" in {train.accumulate} parts"
        if count < LEAST_VALUES:
            message += (
                ", too few for a variance: it is normalized with the running statistics, which "
                "ignore it"
            )
        else:
            message += f": a variance of {count} values is mostly noise"
        yield Violation(path, f"{message}; {_remedy(train, shortest, samples)}")


def _remedy(train: TrainSpec, shortest: int, samples: int) -> str:
    """Return the remedy that gives the shortest mini-batch more values, or drops it."""
    if shortest < min(train.batch_size, samples):
        return 'train.last_batch = "drop" leaves it out'
    if train.accumulate > 1:
        return "choose a smaller train.accumulate"
    if train.batch_size < samples:
        return "choose a larger train.batch_size"
    return f"only {count_text(samples, 'training sample')}; layer_norm needs no mini-batch"


def _least(train: TrainSpec, samples: int) -> str:
    """Return the remedy that gives a mini-batch, or each of its parts, a variance."""
    least = LEAST_VALUES * train.accumulate
    if train.batch_size < least <= samples:
        return f"batch_size must be at least {least}, got {train.batch_size}"
    if samples < LEAST_VALUES:
        return "there is only 1 training sample"
    rows = min(train.batch_size, samples)
    return (
        f"accumulate must be at most {rows // LEAST_VALUES}, got {train.accumulate}, for "
        f"mini-batches of {count_text(rows, 'row')}"
    )


def _statistics(resolved: RunSpec, shapes: ModelShapes) -> Iterator[tuple[str, str, int]]:
    """Yield path, kind and values per sample of each layer with mini-batch statistics."""
    freezes = resolved.optimizer.freezes
    layers = zip(resolved.layers, shapes.layer_inputs, strict=True)
    for position, (layer, shape) in enumerate(layers):
        values = layer.values_per_channel(shape)
        if not values:
            continue
        parameters, state = (
            [f"{position}.{name}" for name in names]
            for names in (layer.parameter_shapes(shape), layer.state_shapes(shape))
        )
        if set(state) - frozen_state(parameters, state, freezes):
            yield resolved.layer_paths[position], resolved.layer_kinds[position], values


def _parts(accumulate: int) -> str:
    return "" if accumulate == 1 else f" in {accumulate} parts (train.accumulate)"


_ROWS: Final = 65_536


def check_weights(dataset: Dataset, model: Model) -> None:
    """Raise InvalidData if all weights are 0, since there is no mean over such samples.

    The weights are those of the data times the class weights of the loss, in the model's type,
    in which a tiny weight is 0.
    """
    info = dataset.info
    as_targets = np.int64 if info.target_kind == "class" else model.dtype
    nothing = np.empty((0, *info.target_shape), as_targets)
    if not info.weighted and model.loss.sample_weights(nothing, None) is None:
        return
    for start in range(0, len(dataset), _ROWS):
        indices = np.arange(start, min(start + _ROWS, len(dataset)))
        targets = np.empty((len(indices), *info.target_shape), as_targets)
        dataset.take_targets(indices, targets)
        weights = None
        if info.weighted:
            weights = np.empty(len(indices), model.dtype)
            dataset.take_weights(indices, weights)
        effective = model.loss.sample_weights(targets, weights)
        if effective is None or (effective > 0).any():
            return
    count = f"all {len(dataset):,} samples" if len(dataset) > 1 else "the only sample"
    message = f"the weight of {count} is 0, so that there is nothing to average"
    if model.loss.sample_weights(nothing, None) is not None:
        message += "; the weights of their classes (model.loss) count, too"
    raise InvalidData(message)
