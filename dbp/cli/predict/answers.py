"""Compute the answers of `dbp predict`, and open the data sets of `dbp evaluate`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.cli.predict.rows import InputRows
from dbp.client.inference import Prediction
from dbp.data.dataset import Dataset, Reader
from dbp.data.subset import hold_out
from dbp.data.target_kind import reader_of_kind
from dbp.errors import InvalidData, InvalidInput
from dbp.job.spec.job_spec import Holdout
from dbp.job.spec.resolve import ResolvedSpec
from dbp.json_value import JsonObject
from dbp.registry import component_class, kinds
from dbp.storage.atomic_file import write_file
from dbp.train.check.inspection import naming
from dbp.train.faults.finite import check_outputs
from dbp.train.model.answers import model_answers, no_classes, no_probabilities
from dbp.train.model.trained_model import TrainedModel
from dbp.train.run_spec import RunSpec, run_spec

Array = npt.NDArray[Any]

WRITTEN: Final = (".npy", ".csv", ".tsv")  # suffixes of files of answers


def answers(model: TrainedModel, inputs: InputRows, *, proba: bool) -> Array:
    """Return classes (by name if they have names), values for regression, or probabilities.

    Raises InvalidData for inputs and outputs that are not finite.
    """
    try:
        return model_answers(model, inputs.rows, proba=proba)
    except InvalidData as error:
        raise inputs.located(error) from error


def check_probabilities(spec: JsonObject) -> None:
    """Raise InvalidInput if the loss of a job's spec gives scores, no probabilities.

    A loss that is not installed here is not checked: its service knows what it gives.
    """
    model = spec.get("model")
    loss = model.get("loss") if isinstance(model, Mapping) else None
    kind = loss.get("kind") if isinstance(loss, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds("losses"):
        return
    if not component_class("losses", kind).gives_probabilities:
        raise InvalidInput(no_probabilities())


def given_answers(prediction: Prediction, inputs: InputRows, *, proba: bool) -> Array:
    """Return the answers from a service's prediction."""
    if prediction.classes is None and proba:
        raise InvalidInput(no_classes())
    try:
        check_outputs(prediction.outputs, 0)  # a service may be older than this command
    except InvalidData as error:
        raise inputs.located(error) from error
    if prediction.classes is None or proba:
        return prediction.outputs
    return prediction.classes if prediction.labels is None else prediction.labels


def write_answers(path: Path, found: Array) -> None:
    """Write a .npy, .csv or .tsv file atomically; raises OSError."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        file = io.BytesIO()
        np.lib.format.write_array(file, found)  # names are fixed-width text, never objects
        write_file(path, [file.getbuffer()])
    else:
        text = io.StringIO(newline="")
        delimiter = "\t" if suffix == ".tsv" else ","
        rows = csv.writer(
            text, delimiter=delimiter, lineterminator="\n"
        )  # quotes a name that holds a comma
        rows.writerows(found.reshape(len(found), math.prod(found.shape[1:])))
        write_file(path, [text.getvalue().encode()])


def _opened(reader: Reader, resolved: RunSpec, path: str) -> Dataset:
    with naming(path):
        return reader_of_kind(reader, resolved.loss.target_kind()).open()


def data_set(spec: ResolvedSpec, part: str) -> Dataset:
    """Return the train, validation or test set of a spec, as training used it."""
    resolved = run_spec(spec)
    if part == "test":
        if resolved.test_reader is None:
            raise InvalidInput(
                "data.test: the spec names no test set; add --on validation or --on train"
            )
        return _opened(resolved.test_reader, resolved, "data.test")
    if part == "validation" and resolved.validation_reader is not None:
        return _opened(resolved.validation_reader, resolved, "data.validation")
    whole = _opened(resolved.train_reader, resolved, "data.train")
    validation = resolved.spec.data.validation
    if not isinstance(validation, Holdout):
        if part == "validation":
            raise InvalidInput("data.validation: the spec names no validation set")
        return whole
    training, held_out = hold_out(whole, validation.fraction, resolved.spec.seed)
    return training if part == "train" else held_out
