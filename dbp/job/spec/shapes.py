"""Check shapes through the model, and the data against it, before arrays are allocated."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dbp.data_access import hides_contents
from dbp.errors import DbpError, InvalidSpec, Violation
from dbp.job.spec.contracts import Shape
from dbp.job.spec.output_range import range_violation
from dbp.job.spec.resolve import ResolvedSpec
from dbp.job.spec.rules import target_words
from dbp.plugin_faults import fault_text, is_plugin
from dbp.printable import cut
from dbp.quantities import count_text

MAX_PARAMETERS: Final = 2**31
MOST_NAMES: Final = 30  # of classes, in a message
NAME_LENGTH: Final = 40  # characters of each that are shown


@dataclass(frozen=True)
class DataShape:
    """The training set as validation sees it; ``target_kind`` is "class" or "values".

    ``classes`` is the number of classes if the source knows it, ``class_names`` their names if
    they have some.
    """

    input_shape: Shape
    target_shape: Shape
    target_kind: str
    samples: int | None = None
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    describe: Callable[[], tuple[str, str]] | None = None


@dataclass(frozen=True)
class ModelShapes:
    """Shapes of one sample and numbers of parameters, layer by layer."""

    input_shape: Shape
    output_shapes: tuple[Shape, ...]
    parameter_counts: tuple[int, ...]

    @property
    def layer_inputs(self) -> tuple[Shape, ...]:
        """Input shape of each layer."""
        return (self.input_shape, *self.output_shapes[:-1])

    @property
    def parameter_count(self) -> int:
        """Number of elements of all parameters."""
        return sum(self.parameter_counts)


def check_shapes(resolved: ResolvedSpec, input_shape: Shape) -> ModelShapes:
    """Compute shapes through the model; InvalidSpec at the first layer that does not fit."""
    shape, total = input_shape, 0
    outputs: list[Shape] = []
    names: list[str] = []
    state: list[str] = []
    counts: list[int] = []
    for layer, kind, path in zip(
        resolved.layers, resolved.layer_kinds, resolved.layer_paths, strict=True
    ):
        try:
            with _blaming(path, layer):
                parameters = layer.parameter_shapes(shape)
                state += [f"{len(outputs)}.{name}" for name in layer.state_shapes(shape)]
                shape = layer.output_shape(shape)
        except ValueError as error:
            hint = _channel_hint(resolved, shape, str(error))
            raise _violation(path, f"{kind}: {error}{hint}") from error
        counts.append(sum(math.prod(size) for size in parameters.values()))
        names += [f"{len(outputs)}.{name}" for name in parameters]
        outputs.append(shape)
        total += counts[-1]
        if total > MAX_PARAMETERS:
            message = (
                f"{kind}: the model has {total:,} parameters up to here; "
                f"at most {MAX_PARAMETERS:,} allowed"
            )
            raise _violation(path, message)
    _check_output(resolved, shape)
    try:
        resolved.optimizer.check_names(names, state)
    except ValueError as error:
        option, _, message = str(error).partition(": ")
        raise _violation(f"optimizer.{option}", message) from error
    return ModelShapes(input_shape, tuple(outputs), tuple(counts))


@contextlib.contextmanager
def _blaming(path: str, component: object) -> Iterator[None]:
    """Turn an exception of a plug-in, other than ValueError, into a violation."""
    try:
        yield
    except (ValueError, DbpError):
        raise
    except Exception as error:
        if not is_plugin(type(component)):
            raise
        message = f"the plug-in {type(component).__name__} raises {fault_text(error)}"
        raise _violation(path, message) from error


def _channel_hint(resolved: ResolvedSpec, shape: Shape, problem: str) -> str:
    """Return the remedy for one-channel images that are stored without a channel axis."""
    is_image = len(shape) == 2 and "(channels, height, width)" in problem
    if not is_image or not hasattr(resolved.train_reader, "layout"):
        return ""
    return '; layout = "NHW" in data.train gives images of one channel that axis'


def _check_output(resolved: ResolvedSpec, shape: Shape) -> None:
    """Raise InvalidSpec unless loss and metrics fit outputs of this shape and range."""
    try:
        with _blaming("model.loss", resolved.loss):
            resolved.loss.check_output(shape)
    except ValueError as error:
        raise _violation(resolved.layer_paths[-1], f"output of the model: {error}") from error
    if (violation := range_violation(resolved, shape)) is not None:
        raise InvalidSpec([violation])
    for index, (kind, metric) in enumerate(resolved.metrics):
        try:
            with _blaming(f"model.metrics[{index}]", metric):
                metric.size(shape)
        except ValueError as error:
            option, _, message = str(error).partition(": ")
            raise _violation(
                f"model.metrics[{index}].{option}", f"{kind}: {message}"
            ) from error


def check_data(resolved: ResolvedSpec, data: DataShape) -> ModelShapes:
    """Check shapes and targets against the training set; raises InvalidSpec."""
    wanted = resolved.loss.target_kind()
    if data.target_kind != wanted:
        raise _violation("model.loss", _mismatch(resolved, data))
    shapes = check_shapes(resolved, data.input_shape)
    output, last = shapes.output_shapes[-1], resolved.layer_paths[-1]
    if wanted == "values" and (data.target_shape or (1,)) != output:
        message = (
            f"output of the model has shape {output}, "
            f"but a target of the training set has shape {data.target_shape}"
        )
        raise _violation(last, message)
    distinguished = resolved.loss.class_count(output) if wanted == "class" else 0
    if wanted == "class" and data.classes is not None and data.classes > distinguished:
        message = (
            f"the model has outputs for {count_text(distinguished, 'class', 'classes')}, "
            f"but the training set has {count_text(data.classes, 'class', 'classes')}"
            f"{named(data.class_names)}"
        )
        raise _violation(last, message)
    return shapes


def _mismatch(resolved: ResolvedSpec, data: DataShape) -> str:
    """Return the message on a training set with targets that the loss does not learn from."""
    wanted, reader = resolved.loss.target_kind(), resolved.train_reader
    found, remedy = target_words(data.target_kind), ""
    if data.class_names:
        found = f"class labels{named(data.class_names)}"
        if hasattr(reader, "target"):
            remedy = "name another column as the target, or write numbers; "
        remedy += "for classes take a loss of classes, such as softmax_cross_entropy"
    elif wanted == "values" and hasattr(reader, "target_kind"):
        remedy = 'target_kind = "values" has the reader take them as numbers to predict'
    elif wanted == "class" and data.describe is not None:
        found, remedy = data.describe()
    message = (
        f"{resolved.spec.model.loss.kind} learns from {target_words(wanted)}, but the targets "
        f"of the training set are {found}"
    )
    return f"{message}; {remedy}" if remedy else message


def named(names: Sequence[str]) -> str:
    """Return class names for a message, the last ones too: one may be there by mistake.

    None in those of a job, which others may read.
    """
    if hides_contents():
        return ""
    if len(names) > MOST_NAMES:
        names = (*names[: MOST_NAMES - 3], "...", *names[-2:])
    return f": {', '.join(cut(name, NAME_LENGTH) for name in names)}" if names else ""


def _violation(path: str, message: str) -> InvalidSpec:
    return InvalidSpec([Violation(path, message)])
