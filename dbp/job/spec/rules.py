"""Check rules over several fields of a spec, the last part of its validation."""

from __future__ import annotations

import re
from collections.abc import Container

from dbp.errors import Violation, alternatives
from dbp.job.spec.component import Components
from dbp.job.spec.fields import shown
from dbp.job.spec.job_spec import JobSpec, TrainSpec
from dbp.quantities import count_text
from dbp.registry import kinds as kinds_of

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TARGETS = {"class": "class labels (whole numbers)", "values": "values (floats)"}


def cross_field_violations(spec: JobSpec, built: Components) -> list[Violation]:
    """Return violations of rules over several fields; single fields must be valid."""
    train = spec.train
    violations = []
    if not _NAME.fullmatch(spec.name):
        message = (
            "must be 1 to 63 lower-case letters, digits and dashes, with a letter or a digit "
            f"at both ends, got {shown(spec.name)}"
        )
        violations.append(Violation("name", message))
    if train.epochs is None and train.steps is None:
        message = "needs epochs or steps: how long to train (both: whichever ends first)"
        violations.append(Violation("train", message))
    if train.numerics == "exact" and train.batch_size < train.lanes:
        message = (
            f"must be >= lanes ({train.lanes}) in exact numerics, got {train.batch_size}; "
            "larger mini-batches or fewer lanes"
        )
        violations.append(Violation("train.batch_size", message))
    if train.accumulate > train.batch_size:
        message = f"must be <= batch_size ({train.batch_size}), got {train.accumulate}"
        violations.append(Violation("train.accumulate", message))
    ends = (train.schedule_steps or ())[1::2]
    if list(ends) != sorted(ends) or train.schedule_steps == ():
        message = f"must be n, or n, a, m, ... with a ascending, got {train.schedule_steps}"
        violations.append(Violation("train.schedule_steps", message))
    first = built.layers[0] if built.layers else None
    if first is not None and first.layer.ids() and spec.data.scale != "none":
        message = (
            f'must be "none" where the first layer takes whole numbers, got {spec.data.scale!r}'
        )
        violations.append(Violation("data.scale", message))
    if spec.checkpoint.keep_best and train.stop is None:
        message = "needs train.stop, whose metric says which epoch is the best"
        violations.append(Violation("checkpoint.keep_best", message))
    kinds = [kind for kind, _ in built.metrics]
    for index, kind in enumerate(kinds):
        if kind in kinds[:index]:
            violations.append(Violation(f"model.metrics[{index}]", f"{kind!r} is listed twice"))
    return violations + _metric_violations(built) + _stop_violations(spec, kinds, built)


def _metric_violations(built: Components) -> list[Violation]:
    """Return violations of metrics that do not fit the loss's targets or outputs."""
    if built.loss is None:
        return []
    wanted, function = built.loss.target_kind(), built.loss.activation()
    violations = []
    for index, (kind, metric) in enumerate(built.metrics):
        path = f"model.metrics[{index}]"
        if metric.target_kind() != wanted:
            message = (
                f"{kind!r} judges {target_words(metric.target_kind())}, "
                f"but the loss learns from {target_words(wanted)}"
            )
            violations.append(Violation(path, message))
        elif metric.activation() not in (None, function):
            message = (
                f"{kind!r} judges {_output_words(metric.activation())}, but with this loss the "
                f"outputs of the model are {_output_words(function)}; remove it"
            )
            violations.append(Violation(path, message))
    return violations


def _output_words(function: str | None) -> str:
    """Return the field's name for outputs to which the loss applies this function."""
    return f"numbers before the {function}" if function else "the predicted values themselves"


def _stop_violations(spec: JobSpec, kinds: list[str], built: Components) -> list[Violation]:
    stop = spec.train.stop
    violations = []
    if stop is not None:
        if stop.patience is None and stop.target is None and not stop.restore_best:
            message = "needs patience, target or restore_best = true, or it would do nothing"
            violations.append(Violation("train.stop", message))
        violations += _watched("train.stop.metric", stop.metric, spec, kinds, built)
    if built.optimizer is not None and (metric := built.optimizer.learning_rate.metric()):
        path = "optimizer.learning_rate"
        violations += _watched(path, metric, spec, kinds, built)
    return violations


def _watched(
    path: str, metric: str, spec: JobSpec, kinds: list[str], built: Components
) -> list[Violation]:
    """Return why a metric cannot be followed through the epochs."""
    single = {kind: metric for kind, metric in built.metrics if metric.is_single()}
    summed = [kind for kind, metric in single.items() if metric.is_summed()]
    known = [f"training_{name}" for name in ("loss", *summed)]
    known += [f"validation_{name}" for name in ("loss", *single)]
    if metric not in known:
        if built.loss is None:  # an unbuilt loss would hide the metrics that fit it
            return []
        return [Violation(path, _unknown(metric, known, kinds, single))]
    if metric.startswith("validation_") and spec.data.validation is None:
        message = (
            f"{metric} needs a validation set: add data.validation, "
            "for instance validation = { fraction = 0.1 }"
        )
        return [Violation(path, message)]
    every, epochs = spec.train.evaluate_every_epochs, spec.train.epochs
    if metric.startswith("validation_") and epochs is not None and every > epochs:
        message = (
            f"must be <= epochs ({epochs}) where {path} follows {metric}, which would be "
            f"measured at the end only, got {every}"
        )
        return [Violation("train.evaluate_every_epochs", message)]
    return []


def _unknown(metric: str, known: list[str], kinds: list[str], single: Container[str]) -> str:
    """Return why a metric of this name cannot be followed, and which metrics can."""
    part, _, rest = metric.partition("_")
    kind = rest.partition("[")[0]
    if part == "training" and kind in single:
        usable = ", ".join(name for name in known if name.startswith("training_"))
        return (
            f"{metric} does not exist: this metric needs all samples at once, so it is "
            f"measured in evaluations alone; use validation_{kind}, or of training: {usable}"
        )
    if kind in kinds:
        return f"{metric} is not one figure" + alternatives("", known, "known")
    if part in ("training", "validation") and kind in kinds_of("metrics"):
        return f"{metric} is not measured: add {kind!r} to model.metrics"
    return f"unknown {shown(metric)}" + alternatives(metric, known, "known")


def target_words(kind: str) -> str:
    """Return a kind of targets as text for users."""
    return _TARGETS.get(kind, kind)


def lanes_violations(train: TrainSpec, workers: int) -> list[Violation]:
    """Return a violation if exact numerics have fewer lanes than ``workers``."""
    if train.numerics != "exact" or workers <= train.lanes:
        return []
    message = (
        f"exact numerics share {count_text(train.lanes, 'lane')} among the workers, got "
        f"{workers}; use at most {count_text(train.lanes, 'worker')}, or set lanes = "
        f'{workers} (which changes the result\'s last bits) or numerics = "fast"'
    )
    return [Violation("train.lanes", message)]
