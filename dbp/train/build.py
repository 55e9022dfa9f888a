"""Build the data sets, scaling, model and plan of a run from an inspected spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dbp.data.classes import align_classes, check_targets
from dbp.data.column_order import align_columns
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.preprocessing import Scaling, Share, fit
from dbp.data.representable import check_representable
from dbp.data.subset import hold_out
from dbp.data.target_kind import reader_of_kind
from dbp.data.target_range import check_range
from dbp.errors import InvalidSpec, Violation
from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat
from dbp.job.spec.job_spec import Holdout
from dbp.job.spec.shapes import check_shapes
from dbp.nn.layer import Array
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.train.check.arithmetic import arithmetic
from dbp.train.check.inspection import (
    DataFacts,
    Inspected,
    check_workers,
    naming,
)
from dbp.train.check.mini_batches import check_mini_batches, check_weights
from dbp.train.faults.agreement import all_or_none
from dbp.train.faults.digest import CHECKSUM, sha256_of
from dbp.train.model.initial import load_initial
from dbp.train.plan import Plan, make_plan
from dbp.train.run_spec import RunSpec


@dataclass(frozen=True)
class Setup:
    """The objects of a run, the same on every rank; only the communicator is missing."""

    resolved: RunSpec
    model: Model
    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    scaling: Scaling
    plan: Plan
    class_names: tuple[str, ...]
    initial: Parameters | None = None  # initial parameters, if a file gives them
    source: Dataset | None = None  # the training set before samples are held out
    heartbeat: Heartbeat = field(default=NO_HEARTBEAT, compare=False)  # gets each phase

    @property
    def metric_kinds(self) -> tuple[str, ...]:
        """The kinds of the model's metrics, in its order."""
        return tuple(kind for kind, _ in self.resolved.metrics)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes to show before training, each with the path of its field."""
        is_held_out = self.resolved.validation_reader is None
        facts = DataFacts(
            self.train.info,
            len(self.train),
            None if self.validation is None or is_held_out else self.validation.info,
            None if self.test is None else self.test.info,
        )
        shapes = check_shapes(self.resolved, facts.train.input_shape)
        return Inspected(self.resolved, facts, shapes).notes()

    def initialize(self, parameters: Parameters) -> None:
        """Write the initial parameters: those of the file, or random ones by the seed."""
        if self.initial is None:
            self.model.initialize(parameters, self.resolved.spec.seed)
        else:
            parameters.vector[:] = self.initial.vector

    def arithmetic(self) -> str:
        """Return, in one line, all that the last bits of this run depend on.

        That is the machine's arithmetic, and layers' ways to compute that are new.
        """
        ways = {way for layer in self.model.layers for way in layer.arithmetic}
        return ", ".join([arithmetic(), *sorted(ways)])

    def facts(self) -> dict[str, object]:
        """Return the values that must be equal on all ranks, by the name that messages use."""
        sizes = (self.train, self.validation, self.test)
        exact = self.resolved.spec.train.numerics == "exact"
        return {
            "arithmetic, which exact numerics need to be equal (OPENBLAS_CORETYPE sets the "
            "kernel)": self.arithmetic() if exact else "",
            "checksum of parameters (so other builds of google-crc32c)": CHECKSUM,
            "spec": self.resolved.digest,
            "number of samples": [None if data is None else len(data) for data in sizes],
            "input shape": self.model.input_shape,
            "model": self.model.tensor_shapes,
            "scaling (so other training data)": self.scaling.to_json(),
            "file of initial parameters": self.initial and sha256_of(self.initial.vector),
        }


def build(inspected: Inspected) -> Setup:
    """Build everything for a run of one process; raises the errors of ``prepare``."""
    return fit_scaling(prepare(inspected))


def fit_scaling(setup: Setup, communicator: Communicator | None = None) -> Setup:
    """Fit the scaling on the training samples; each rank reads its share of them.

    The result has the same bits for any number of ranks. Raises InvalidData, on every rank.
    Collective.
    """
    share = None
    if communicator is not None:
        ranks = communicator.size

        def gather(read: Callable[[], Array]) -> Array:
            own = all_or_none(communicator, read)
            whole = np.empty((ranks, *own.shape))
            communicator.allgather(own.reshape(-1), whole.reshape(-1))
            return whole

        share = Share(communicator.rank, ranks, gather)
    with naming("data.train"):
        scaling = fit(setup.resolved.spec.data.scale, setup.train, share=share)
    return dataclasses.replace(setup, scaling=scaling)


def prepare(inspected: Inspected, workers: int = 1) -> Setup:
    """Open the data and compose the model; ``fit_scaling`` then fits the scaling.

    Raises InvalidData or InvalidFile, naming field and file, or InvalidSpec.
    """
    resolved = inspected.resolved
    spec = resolved.spec
    train = _open(resolved.train_reader, "data.train")
    class_names = train.info.class_names
    validation = _open_like(resolved.validation_reader, train.info, "data.validation")
    test = _open_like(resolved.test_reader, train.info, "data.test")
    source = train
    if isinstance(spec.data.validation, Holdout):
        train, validation = hold_out(train, spec.data.validation.fraction, spec.seed)
    check_workers(resolved, len(train), workers)
    shapes = check_shapes(resolved, train.info.input_shape)
    check_mini_batches(resolved, shapes, len(train))
    model = _compose(resolved, train)
    for path, dataset in (
        ("data.train", train),
        ("data.validation", validation),
        ("data.test", test),
    ):
        if dataset is not None:
            with naming(path):
                check_representable(dataset, model.dtype, inputs=spec.data.scale == "none")
                _check_targets(dataset, model)
    return Setup(
        resolved=resolved,
        model=model,
        train=train,
        validation=validation,
        test=test,
        scaling=Scaling(),
        plan=make_plan(spec.train, len(train)),
        class_names=class_names,
        initial=_initial(spec.train.initial_parameters, model, train.info.input_names),
        source=source,
    )


def _check_targets(dataset: Dataset, model: Model) -> None:
    """Raise InvalidData unless the loss accepts all targets and some weight is above 0."""
    if dataset.info.target_kind == "class":
        check_targets(dataset, model.loss.class_count(model.output_shape))
    else:
        check_range(dataset, *model.loss.target_range())
    check_weights(dataset, model)


def _open(reader: Reader, path: str) -> Dataset:
    with naming(path, reader):
        return reader.open()


def _open_like(reader: Reader | None, train: DataInfo, path: str) -> Dataset | None:
    """Open a data set; put its classes and columns in the order of the training set."""
    if reader is None:
        return None
    with naming(path, reader):
        opened = reader_of_kind(reader, train.target_kind).open()
        dataset = align_classes(opened, train.class_names)
        return align_columns(dataset, train.input_names, train.other_columns, "data.train")


def _initial(path: str | None, model: Model, inputs: tuple[str, ...]) -> Parameters | None:
    if path is None:
        return None
    return load_initial(path, model.tensor_shapes, model.dtype, inputs)


def _compose(resolved: RunSpec, train: Dataset) -> Model:
    try:
        return Model(
            resolved.layers,
            train.info.input_shape,
            dtype=resolved.spec.train.dtype,
            loss=resolved.loss,
            metrics=[metric for _, metric in resolved.metrics],
            freezes=resolved.optimizer.freezes,
        )
    except ValueError as error:
        raise InvalidSpec([Violation("model", str(error))]) from error
