"""Measure a trained model on a data set that fits it, in this process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.column_names import MODEL, Columns
from dbp.data.classes import align_classes, check_targets
from dbp.data.column_order import align_columns
from dbp.data.dataset import Dataset
from dbp.errors import InvalidData
from dbp.nn.class_counts import ClassCounts
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.check.mini_batches import check_weights
from dbp.train.evaluate import Evaluator
from dbp.train.faults.finite import check_samples
from dbp.train.model.class_report import ClassReport
from dbp.train.rows import RowReader


@final
@dataclass(frozen=True)
class Evaluation:
    """The result: mean loss and metrics by name; a report on classes, None for values."""

    figures: dict[str, float]
    class_report: ClassReport | None


def fitting(
    dataset: Dataset, model: Model, columns: Columns, class_names: tuple[str, ...]
) -> Dataset:
    """Return the data set with the columns and classes of the model.

    Raises InvalidData if it does not fit the model.
    """
    dataset = align_columns(dataset, columns.inputs, columns.others, MODEL)
    info = dataset.info
    wanted = model.loss.target_kind()
    if info.input_shape != model.input_shape:
        raise InvalidData(
            f"inputs of shape {info.input_shape}; the model takes {model.input_shape}"
        )
    if info.target_kind != wanted:
        raise InvalidData(f"targets of kind {info.target_kind}; the model gives {wanted}")
    outputs = math.prod(model.output_shape)
    if wanted == "values" and math.prod(info.target_shape) != outputs:
        raise InvalidData(
            f"targets of shape {info.target_shape}; the model gives {model.output_shape}"
        )
    if wanted == "class":
        dataset = align_classes(dataset, class_names)
        check_targets(dataset, model.loss.class_count(model.output_shape))
    check_weights(dataset, model)
    return dataset


def evaluation(
    model: Model,
    parameters: Parameters,
    rows: RowReader,
    metric_kinds: tuple[str, ...],
    labels: tuple[str, ...],
) -> Evaluation:
    """Compute loss, metrics and, for classes, the report; ``labels`` name the classes.

    Raises InvalidData if a sample's outputs are not finite.
    """
    is_class = model.loss.target_kind() == "class"
    counts = ClassCounts(model.loss.class_count(model.output_shape)) if is_class else None
    evaluator = Evaluator(
        model, rows, SoloCommunicator(), metric_kinds=metric_kinds, class_counts=counts
    )
    with np.errstate(all="ignore"):
        figures = evaluator.run(parameters)
        if not math.isfinite(figures["loss"]):
            check_samples(model, parameters, rows)
    return Evaluation(figures, None if counts is None else ClassReport.of(counts, labels))
