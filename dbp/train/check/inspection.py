"""Inspect a resolved spec with the headers of its data files, before samples are loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from dbp.data.column_order import check_columns
from dbp.data.dataset import DataInfo, Reader
from dbp.data.file import missing_text
from dbp.data.found_targets import describe_values
from dbp.data.target_kind import reader_of_kind
from dbp.data_access import status_of
from dbp.errors import DbpError, InvalidData, InvalidSpec, Violation
from dbp.file_pattern import is_pattern
from dbp.job.spec.files import file_options
from dbp.job.spec.job_spec import Holdout
from dbp.job.spec.output_range import range_note
from dbp.job.spec.resolve import ResolvedSpec
from dbp.job.spec.rules import lanes_violations
from dbp.job.spec.shapes import DataShape, ModelShapes, check_data, check_shapes
from dbp.nn.model import Model
from dbp.plugin_faults import fault_text, is_plugin
from dbp.quantities import count_text
from dbp.train.check.data_notes import channels_note, data_notes
from dbp.train.check.mini_batches import check_mini_batches, mini_batch_notes
from dbp.train.check.run_length import check_schedule, metric_notes, schedule_notes
from dbp.train.model.initial import check_initial
from dbp.train.run_spec import RunSpec, run_spec


@dataclass(frozen=True)
class DataFacts:
    """The headers of a spec's data sets; ``training_samples`` excludes held-out samples."""

    train: DataInfo
    training_samples: int
    validation: DataInfo | None
    test: DataInfo | None


@dataclass(frozen=True)
class Inspected:
    """A resolved spec that fits its data, the headers of the data, and the model's shapes."""

    resolved: RunSpec
    facts: DataFacts
    shapes: ModelShapes

    def notes(self) -> tuple[str, ...]:
        """Return the notes to show before training, each with the path of its field."""
        resolved, facts, shapes = self.resolved, self.facts, self.shapes
        found = [range_note(resolved, shapes.output_shapes[-1])]
        found += mini_batch_notes(resolved, shapes, facts.training_samples)
        found += metric_notes(resolved, facts.training_samples)
        found += schedule_notes(resolved, facts.training_samples)
        data = data_notes(resolved, facts.train, facts.validation, facts.test)
        return data + tuple(
            f"{note.path}: {note.message}" for note in found if note is not None
        )


def inspect(spec: ResolvedSpec, workers: int = 1) -> Inspected:
    """Check a spec as far as that reads no samples; raises InvalidSpec or InvalidData.

    It covers files, headers, shapes and mini-batches, and that ``workers`` ranks have enough
    lanes and samples. It starts nothing and allocates nothing large.
    """
    resolved = run_spec(spec)
    facts = read_headers(resolved)
    shapes = _check_shapes(resolved, facts)
    if shapes.parameter_count == 0:
        raise InvalidSpec([Violation("model.layers", "no layer has a parameter to train")])
    check_workers(resolved, facts.training_samples, workers)
    check_mini_batches(resolved, shapes, facts.training_samples)
    check_schedule(resolved, facts.training_samples)
    train = resolved.spec.train
    if train.initial_parameters is not None:
        model = Model(
            resolved.layers, facts.train.input_shape, dtype=train.dtype, loss=resolved.loss
        )
        check_initial(train.initial_parameters, model.tensor_shapes, facts.train.input_names)
    return Inspected(resolved, facts, shapes)


def inspect_heads(spec: ResolvedSpec) -> None:
    """Check the headers and first rows of each data set, and the model's shapes.

    What all rows decide is left out: kinds and classes of targets, numbers of samples. Raises
    InvalidSpec or InvalidData.
    """
    resolved = run_spec(spec)
    _check_files(resolved)
    shape = None
    for path, reader in (
        ("data.train", resolved.train_reader),
        ("data.validation", resolved.validation_reader),
        ("data.test", resolved.test_reader),
    ):
        if reader is None:
            continue
        with naming(path, reader):
            info = reader.inspect()
            if shape is None:
                shape = info.input_shape
                check_shapes(resolved, shape)
            elif info.input_shape != shape:
                raise InvalidData(
                    f"inputs of shape {info.input_shape}, but those of data.train have {shape}"
                )


def read_headers(resolved: RunSpec) -> DataFacts:
    """Read the headers of all data sets and compare them; raises InvalidData."""
    _check_files(resolved)
    with naming("data.train", resolved.train_reader):
        train = resolved.train_reader.inspect()
    validation = test = None
    if resolved.validation_reader is not None:
        with naming("data.validation", resolved.validation_reader):
            validation = _inspect_like(resolved.validation_reader, train)
    if resolved.test_reader is not None:
        with naming("data.test", resolved.test_reader):
            test = _inspect_like(resolved.test_reader, train)
    return DataFacts(train, train.samples - _held_out(resolved, train), validation, test)


def _check_shapes(resolved: RunSpec, facts: DataFacts) -> ModelShapes:
    """Return the shapes through the model; an error mentions channels-last images."""
    try:
        return check_data(resolved, _shape_of(resolved, facts))
    except InvalidSpec as error:
        note = channels_note(resolved, facts.train)
        if note is None or not str(error.violations[0].path).startswith("model.layers"):
            raise
        raise InvalidSpec([*error.violations, Violation("data.train", note)]) from error


def check_workers(resolved: RunSpec, training_samples: int, workers: int) -> None:
    """Raise InvalidSpec if there are too few lanes or samples for ``workers`` ranks."""
    train = resolved.spec.train
    violations = lanes_violations(train, workers)
    needed = max(workers, train.lanes if train.numerics == "exact" else 1)
    if training_samples < needed:
        message = (
            f"holds {count_text(training_samples, 'training sample')}, but {needed} are "
            "needed: one for each " + ("worker" if needed == workers else "lane (train.lanes)")
        )
        violations.append(Violation("data.train", message))
    if violations:
        raise InvalidSpec(violations)


@contextlib.contextmanager
def naming(path: str, reader: Reader | None = None) -> Iterator[None]:
    """Prefix an InvalidData raised in the block with the path of the field.

    With ``reader``, a plug-in's other exceptions become InvalidData, too.
    """
    try:
        yield
    except InvalidData as error:
        text = str(error)
        if text.startswith("data."):
            raise
        raise InvalidData(f"{path}: {text}") from error
    except Exception as error:
        if isinstance(error, DbpError) or reader is None or not is_plugin(type(reader)):
            raise
        name = type(reader).__name__
        raise InvalidData(f"{path}: the plug-in {name} raises {fault_text(error)}") from error


def _held_out(resolved: RunSpec, train: DataInfo) -> int:
    """Return how many samples ``dbp.data.subset.hold_out`` will hold out."""
    validation = resolved.spec.data.validation
    if not isinstance(validation, Holdout):
        return 0
    return int(train.samples * validation.fraction + 0.5)


def _shape_of(resolved: RunSpec, facts: DataFacts) -> DataShape:
    info = facts.train

    def describe() -> tuple[str, str]:
        with naming("data.train", resolved.train_reader):
            return describe_values(resolved.train_reader.open(), info.targets_name)

    return DataShape(
        input_shape=info.input_shape,
        target_shape=info.target_shape,
        target_kind=info.target_kind,
        samples=facts.training_samples,
        classes=info.classes or len(info.class_names) or None,
        class_names=info.class_names,
        describe=describe,
    )


def _check_files(resolved: RunSpec) -> None:
    """Raise InvalidData with all missing files at once."""
    missing = [
        f"{option.path}: {option.file}: {missing_text(option.file)}"
        for option in file_options(resolved.document)
        if _is_missing(option.file) and not is_pattern(option.file)
    ]
    if len(missing) == 1:
        raise InvalidData(missing[0])
    if missing:
        raise InvalidData(f"{len(missing)} files are missing\n  " + "\n  ".join(missing))


def _is_missing(path: str) -> bool:
    """Return whether there is no such file; False without permission: the reader reports it."""
    try:
        status_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _inspect_like(reader: Reader, train: DataInfo) -> DataInfo:
    """Read the headers of a data set; raise InvalidData unless they fit the training set."""
    info = reader_of_kind(reader, train.target_kind).inspect()
    _check_like(train, info)
    return info


def _check_like(train: DataInfo, other: DataInfo) -> None:
    check_columns(other, train.input_names, train.other_columns, "data.train")
    for what, wanted, got in (
        ("inputs of shape", train.input_shape, other.input_shape),
        ("targets of shape", train.target_shape, other.target_shape),
        ("targets of kind", train.target_kind, other.target_kind),
    ):
        if wanted != got:
            raise InvalidData(f"{what} {got}, but those of data.train have {wanted}")
