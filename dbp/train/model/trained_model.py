"""Load a trained model from a parameter file; predict and evaluate, without MPI or service.

The file's metadata describes the model, the scaling and the class names, so nothing else is
needed. It can name installed components only, so reading a file never runs code from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final, Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from dbp.column_names import POSITIONAL, Columns, columns_of
from dbp.data.dataset import Dataset
from dbp.data.preprocessing import Scaling
from dbp.errors import DbpError, InvalidData, InvalidFile, Violation
from dbp.job.snapshot import Manifest, TensorInfo, decode_header, header_length
from dbp.job.spec.component import build_component
from dbp.job.spec.fields import shown
from dbp.json_value import JsonObject, JsonValue
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.quantities import count_text
from dbp.registry import Group
from dbp.train.evaluate import BLOCK_ROWS
from dbp.train.faults.finite import check_inputs, check_outputs
from dbp.train.model.evaluation import Evaluation, evaluation, fitting
from dbp.train.model.initial import read_parameter_file
from dbp.train.rows import RowReader

Array = npt.NDArray[Any]
T = TypeVar("T")

# Type in the file -> type of the model: float32 represents F16 and BF16 exactly.
DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f4", "BF16": "<f4"}


@final
class TrainedModel:
    """A trained model: layers, parameters, scaling and class names from a parameter file."""

    def __init__(
        self,
        model: Model,
        parameters: Parameters,
        scaling: Scaling,
        *,
        metric_kinds: tuple[str, ...],
        class_names: tuple[str, ...] = (),
        columns: Columns = POSITIONAL,
        metadata: Mapping[str, str],
    ) -> None:
        self.model = model
        self.parameters = parameters
        self.scaling = scaling
        self.metric_kinds = metric_kinds
        self.class_names = class_names
        self.columns = columns
        self.metadata = metadata

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all classes that the model can predict; () if no class has a name.

        A class of the model that the training data did not have is named by its number.
        """
        if not self.class_names:
            return ()
        count = self.model.loss.class_count(self.model.output_shape)
        return (*self.class_names, *map(str, range(len(self.class_names), count)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a parameter file; raise InvalidFile with its path if it is not valid."""
        return cls.from_bytes(read_parameter_file(path), os.fspath(path))

    @classmethod
    def from_bytes(cls, content: bytes | memoryview, source: str) -> Self:
        """Read the bytes of a parameter file; ``source`` names them in errors."""
        length = header_length(bytes(content[:8]), source)
        manifest = decode_header(bytes(content[8 : 8 + length]), source)
        data = memoryview(content)[8 + length :]
        if len(data) != manifest.size_bytes:
            raise InvalidFile(
                f"{source}: cut off or too long: {count_text(len(data), 'byte')} of data, the "
                f"header says {manifest.size_bytes:,}"
            )
        metadata = _Metadata(manifest.metadata, source)
        model, metric_kinds = metadata.model(_dtype(manifest, source))
        return cls(
            model,
            _parameters(model, manifest, data, source),
            metadata.scaling(model.input_shape),
            metric_kinds=metric_kinds,
            class_names=metadata.classes(),
            columns=columns_of(manifest.metadata, source, model.input_shape),
            metadata=manifest.metadata,
        )

    def predict(self, inputs: Array, *, block_rows: int = BLOCK_ROWS) -> Array:
        """Return the outputs, (n, *output_shape), for unscaled inputs (n, *input_shape).

        For classes the outputs are logits; see ``probabilities``. Raises InvalidData if the
        shape does not fit, and for the first row with an input or output that is not finite;
        the error's ``metadata["row"]`` is the number of the row.
        """
        if inputs.shape[1:] != self.model.input_shape or inputs.ndim == 0:
            raise InvalidData(
                f"inputs of shape {inputs.shape}; the model takes (n, "
                f"{', '.join(map(str, self.model.input_shape))})"
            )
        with np.errstate(all="ignore"):  # values that are not finite raise an error below
            if len(inputs) <= block_rows:
                return self._scores(inputs, 0).copy()
            outputs = np.empty((len(inputs), *self.model.output_shape), self.model.dtype)
            for start in range(0, len(inputs), block_rows):
                stop = start + block_rows
                outputs[start:stop] = self._scores(inputs[start:stop], start)
            return outputs

    def _scores(self, inputs: Array, first: int) -> Array:
        """Return the outputs of a block, in reused memory; ``first`` is its first row."""
        x = np.empty(inputs.shape, self.model.dtype)
        self.scaling.convert(inputs, x)
        check_inputs(inputs, x, first, self.columns.inputs)
        scores = self.model.forward(self.parameters, x)
        check_outputs(scores, first, has_ids=self.model.layers[0].ids() > 0)
        return scores

    def probabilities(self, inputs: Array) -> Array:
        """Return the outputs for users: probabilities of classes; values unchanged."""
        return self.activate(self.predict(inputs))

    def activate(self, scores: Array) -> Array:
        """Convert outputs of ``predict``; raises InvalidData if one is not finite."""
        with np.errstate(all="ignore"):
            outputs = self.model.loss.activate(scores)
        check_outputs(outputs, 0)
        return outputs

    def evaluate(self, dataset: Dataset) -> dict[str, float]:
        """Return the mean loss and the metrics over a data set, as ``evaluation`` does."""
        return self.evaluation(dataset).figures

    def evaluation(self, dataset: Dataset) -> Evaluation:
        """Measure the model on a data set; the result also has a report on its classes.

        Columns are matched to those of the training set by name, if both have names. Raises
        InvalidData if the data set does not fit the model, or if a sample's outputs are not
        finite.
        """
        dataset = fitting(dataset, self.model, self.columns, self.class_names)
        rows = RowReader(dataset, self.model, self.scaling, capacity=BLOCK_ROWS)
        return evaluation(self.model, self.parameters, rows, self.metric_kinds, self.labels)


@final
class _Metadata:
    """Parses the metadata strings of a parameter file."""

    def __init__(self, strings: Mapping[str, str], source: str) -> None:
        self._strings = strings
        self._source = source

    def model(self, dtype: str) -> tuple[Model, tuple[str, ...]]:
        """Build the model; return it and the kinds of its metrics."""
        table = self._json("dbp.model", dict)
        violations: list[Violation] = []

        def built(group: Group, value: object, path: str) -> Any:
            return build_component(group, value, path, violations)

        def all_built(group: Group, name: str) -> list[Any]:
            values = self._listed(table, name)
            return [built(group, value, f"{name}[{i}]") for i, value in enumerate(values)]

        shape = self._input_shape()
        try:
            layers, metrics = all_built("layers", "layers"), all_built("metrics", "metrics")
            loss = built("losses", table.get("loss"), "loss")
            if violations:
                raise self._error(f"dbp.model: {'; '.join(map(str, violations))}")
            model = Model(layers, shape, dtype=dtype, loss=loss, metrics=metrics)
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise self._error(f"dbp.model: {error}") from error
        given = self._listed(table, "metrics")
        kinds = (m["kind"] if isinstance(m, Mapping) else m for m in given)
        return model, tuple(map(str, kinds))

    def scaling(self, input_shape: tuple[int, ...]) -> Scaling:
        """Return the scaling of the inputs."""
        try:
            scaling = Scaling.from_json(self._text("dbp.scaling"))
        except (ValueError, KeyError, TypeError, DbpError) as error:
            raise self._error(f"dbp.scaling: {error}") from error
        if scaling.input_shape not in (None, input_shape):
            raise self._error(
                f"dbp.scaling: for inputs of shape {scaling.input_shape}; the model takes "
                f"{input_shape}"
            )
        return scaling

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes; empty if they have none."""
        if "dbp.classes" not in self._strings:
            return ()
        return tuple(map(str, self._json("dbp.classes", list)))

    def _input_shape(self) -> tuple[int, ...]:
        shape = self._json("dbp.input_shape", list)
        if not all(type(size) is int and size > 0 for size in shape):
            raise self._error(f"dbp.input_shape: {shown(shape)}, expected sizes of at least 1")
        return tuple(shape)

    def _listed(self, table: JsonObject, name: str) -> list[JsonValue]:
        value = table.get(name)
        if not isinstance(value, list | None):
            raise self._error(f"dbp.model: {name}: {shown(value)}, expected a list")
        return value or []

    def _text(self, key: str) -> str:
        if key not in self._strings:
            raise self._error(f"has no {key}: not a parameter file written by dbp")
        return self._strings[key]

    def _json(self, key: str, kind: type[T]) -> T:
        try:
            value = json.loads(self._text(key))
        except (ValueError, RecursionError) as error:
            raise self._error(f"{key}: {error}") from error
        if not isinstance(value, kind):
            raise self._error(f"{key}: {shown(value)}, expected a JSON {kind.__name__}")
        return value

    def _error(self, text: str) -> InvalidFile:
        return InvalidFile(f"{self._source}: {text}")


def _dtype(manifest: Manifest, source: str) -> str:
    dtypes = {tensor.dtype for tensor in manifest.tensors}
    if len(dtypes) != 1 or not dtypes <= DTYPES.keys():
        known = ", ".join(DTYPES)
        raise InvalidFile(f"{source}: dtypes {sorted(dtypes)}; expected one of {known}")
    return DTYPES[dtypes.pop()]


def bfloat16_numbers(part: bytes | memoryview) -> Array:
    """Return the numbers of a BF16 tensor as float32, whose upper halves they are."""
    return (np.frombuffer(part, "<u2").astype("<u4") << 16).view("<f4")


def _parameters(model: Model, manifest: Manifest, data: memoryview, source: str) -> Parameters:
    """Return the file's tensors as one vector; they must be exactly those of the model."""
    tensors: dict[str, TensorInfo] = {tensor.name: tensor for tensor in manifest.tensors}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes != model.tensor_shapes:
        raise InvalidFile(
            f"{source}: tensors {shapes} do not fit its model, which has {model.tensor_shapes}"
        )
    parameters = Parameters.zeros(model.tensor_shapes, model.dtype)
    for name, view in parameters.views.items():
        tensor = tensors[name]
        part = data[tensor.offset : tensor.offset + tensor.size_bytes]
        if tensor.dtype == "BF16":
            values = bfloat16_numbers(part)
        else:
            stored = "<f2" if tensor.dtype == "F16" else DTYPES[tensor.dtype]
            values = np.frombuffer(part, stored)
        view[...] = values.reshape(tensor.shape)
    return parameters
