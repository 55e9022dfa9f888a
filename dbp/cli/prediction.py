"""Inputs and answers of `dbp predict`, data sets of `dbp evaluate`. Prints nothing."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.cli.tables import (
    AUTO,
    Note,
    TextOptions,
    ignored,
    is_table,
    is_text,
    read_columns,
)
from dbp.client.inference import Prediction, shaped_rows
from dbp.column_names import POSITIONAL, Columns
from dbp.data.dataset import Dataset, Reader
from dbp.data.subset import hold_out
from dbp.errors import InvalidData, InvalidInput, alternatives
from dbp.job.spec import Holdout, JobSpec
from dbp.job.validate import resolve
from dbp.train.finite import check_outputs
from dbp.train.saved import SavedModel, bfloat16_numbers
from dbp.whole_file import write_whole

Array = npt.NDArray[Any]

_NO_CLASSES: Final = "--proba: the model gives values, no classes"


def read_rows(
    path: Path,
    columns: Columns = POSITIONAL,
    text: TextOptions = AUTO,
    note: Note = ignored,
) -> Array:
    """The rows of a file, in whatever shape they have there; raises InvalidData.

    ``columns``: of the model, to which those of a table are matched by name; ``text``: how a
    text is read; ``note`` receives the reader's notes on the file.
    """
    if text != AUTO and not is_text(path):
        raise InvalidInput(f"--header, --delimiter: {path} is no .csv or .tsv file")
    if is_table(path):
        return read_columns(path, columns, text, note)
    rows = _read_tensor(path) if path.suffix == ".safetensors" else _read_rows(path)
    if not rows.shape:
        raise InvalidData(f"{path}: holds one number, no rows")
    return rows


def read_inputs(
    path: Path,
    shape: tuple[int, ...],
    columns: Columns = POSITIONAL,
    text: TextOptions = AUTO,
    note: Note = ignored,
) -> Array:
    """The rows of a file as inputs of a model, shape (n, *shape); as ``read_rows``."""
    rows = read_rows(path, columns, text, note)
    if is_table(path) and len(shape) == 1 and rows.shape[1:] != shape:
        raise InvalidData(
            f"{path}: rows of shape {rows.shape[1:]}; the model takes {shape}; leave targets "
            "and other columns out"
        )
    try:
        return shaped_rows(rows, shape)
    except ValueError as error:
        raise InvalidData(f"{path}: {error}; leave the targets out") from error


def _read_rows(path: Path) -> Array:
    from dbp.data import idx, npy_format

    name, form = str(path), npy_format if path.suffix == ".npy" else idx
    if not form.inspect_rows(name).shape:
        raise InvalidData(f"{path}: holds one number, no rows")
    rows = form.open_rows(name)
    whole = np.empty(rows.info.shape, rows.info.dtype)
    rows.take(np.arange(len(whole), dtype=np.int64), whole)
    return whole


def _read_tensor(path: Path) -> Array:
    """The only tensor of a safetensors file, or its ``inputs``; BF16 becomes float32."""
    from dbp.client.parameter_set import NUMPY_DTYPES
    from dbp.data.rows import check_finite
    from dbp.job.snapshot import decode_header, header_length

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path}: {error.strerror}") from error
    start = 8 + header_length(content[:8], str(path))
    manifest = decode_header(content[8:start], str(path))
    size = len(content) - start
    if size != manifest.size_bytes:
        short = "short" if size < manifest.size_bytes else "long"
        raise InvalidData(
            f"{path}: too {short}: its header announces {manifest.size_bytes:,} bytes of "
            f"tensors, found {size:,}"
        )
    found = {tensor.name: tensor for tensor in manifest.tensors}
    name = next(iter(found)) if len(found) == 1 else "inputs"
    if name not in found:
        raise InvalidData(
            f"{path}: no tensor 'inputs'{alternatives(name, list(found)[:20], 'tensors')}"
        )
    tensor = found[name]
    part = content[start + tensor.offset : start + tensor.offset + tensor.size_bytes]
    if tensor.dtype == "BF16":
        rows = bfloat16_numbers(part).reshape(tensor.shape)
    else:
        rows = np.frombuffer(part, NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
    check_finite(str(path), rows, np.arange(len(rows) if rows.ndim else 0))
    return rows


def answers(model: SavedModel, inputs: Array, *, proba: bool, source: str = "inputs") -> Array:
    """Classes by name where they have names, values for regression, or probabilities.

    Raises InvalidData for inputs and outputs that are not finite; ``source`` is their file.
    """
    loss = model.model.loss
    is_class = loss.target_kind() == "class"
    if proba and not is_class:
        raise InvalidInput(_NO_CLASSES)
    try:
        scores = model.predict(inputs)
        outputs = model.activate(scores)
    except InvalidData as error:
        raise InvalidData(f"{source}: {error}") from error
    if proba or not is_class:
        return outputs
    classes = loss.classes(scores)
    named: Array = np.array(model.labels)[classes] if model.class_names else classes
    return named


def given_answers(prediction: Prediction, *, proba: bool, source: str) -> Array:
    """The same of what a service has predicted."""
    if prediction.classes is None and proba:
        raise InvalidInput(_NO_CLASSES)
    try:
        check_outputs(prediction.outputs, 0)  # a service may be older than this command
    except InvalidData as error:
        raise InvalidData(f"{source}: {error}") from error
    if prediction.classes is None or proba:
        return prediction.outputs
    return prediction.classes if prediction.labels is None else prediction.labels


def write_answers(path: Path, found: Array) -> None:
    """Write a .npy or .csv file, whole or not at all; raises OSError."""
    if path.suffix == ".npy":
        file = io.BytesIO()
        np.lib.format.write_array(file, found)  # names are fixed-width text, never objects
        write_whole(path, [file.getbuffer()])
    else:
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")  # quotes a name that holds a comma
        rows.writerows(found.reshape(len(found), math.prod(found.shape[1:])))
        write_whole(path, [text.getvalue().encode()])


def _opened(reader: Reader) -> Dataset:
    return reader.open()


def data_set(spec: JobSpec, part: str) -> Dataset:
    """The train, validation or test set of a spec, as training saw it."""
    resolved = resolve(spec)
    if part == "test":
        if resolved.test_reader is None:
            raise InvalidInput("data.test: the spec names no test set; --on validation, train")
        return _opened(resolved.test_reader)
    if part == "validation" and resolved.validation_reader is not None:
        return _opened(resolved.validation_reader)
    whole = _opened(resolved.train_reader)
    validation = resolved.spec.data.validation
    if not isinstance(validation, Holdout):
        if part == "validation":
            raise InvalidInput("data.validation: the spec names no validation set")
        return whole
    training, held_out = hold_out(whole, validation.fraction, resolved.spec.seed)
    return training if part == "train" else held_out
