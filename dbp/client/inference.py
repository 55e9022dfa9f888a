"""Predictions by a job's parameters: send inputs to the service in batches."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from dbp.client.arguments import text, whole_number
from dbp.client.inputs import number_array
from dbp.errors import InvalidArgument, InvalidInput, InvalidType
from dbp.inference import open_inference_pb2 as pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

T = TypeVar("T")
Array = npt.NDArray[Any]

# Of inputs or outputs, whichever are more: answers stay below gRPC's limit of 4 MiB.
BATCH_BYTES: Final = 2 << 20
MAX_BATCH_ROWS: Final = 4_096

# About what a row's class and label take.
_NAME_BYTES: Final = 72

_ONE_ROW: Final = "; is it one row? Add the axis of rows: numpy.expand_dims(x, 0)"

_TYPES: Final = {
    "float32": "FP32", "float64": "FP64", "float16": "FP16", "bfloat16": "BF16",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """Outputs of one parameter version for the inputs, row by row.

    ``outputs``: (n, *output_shape), probabilities of classes (scores if the loss is a hinge),
    or values. ``classes``: (n,) integers, None if the model gives values. ``labels``: (n,)
    texts, None if the classes have no names.
    """

    version: int
    step: int
    digest: str
    outputs: Array
    classes: Array | None
    labels: Array | None


class Call(Protocol):
    """Makes a unary call, within a deadline."""

    def __call__(
        self, method: Callable[..., Awaitable[T]], request: Message, /
    ) -> Awaitable[T]: ...


async def predict(
    call: Call,
    stub: GRPCInferenceServiceStub,
    job_id: str,
    inputs: npt.ArrayLike,
    *,
    version: int = 0,
    label: str = "",
) -> Prediction:
    """Return the model's outputs; the version that answers the first batch answers all.

    inputs: (n, *input_shape) numbers of any type, or rows as vectors. NotFound; OutOfRange: the
    version is no longer kept; InvalidInput; WrongState: no parameters yet.
    """
    whole_number("version", version)
    text("label", label)
    numbers, datatype = _numbers(inputs)
    name = f"{job_id}@{label}" if label else job_id
    number = str(version) if version else ""
    metadata = await call(
        stub.ModelMetadata, pb.ModelMetadataRequest(name=name, version=number)
    )
    array = _shaped(numbers, tuple(metadata.inputs[0].shape[1:]))
    answers: list[pb.ModelInferResponse] = []
    sent = 0
    for batch in _batches(array, metadata):
        request = pb.ModelInferRequest(
            model_name=name, model_version=number, raw_input_contents=[batch.tobytes()]
        )
        request.inputs.add(name="inputs", datatype=datatype, shape=batch.shape)
        try:
            answers.append(await call(stub.ModelInfer, request))
        except InvalidInput as error:
            raise _counted_from(sent, error) from error
        sent += len(batch)
        name, number = job_id, answers[0].model_version
    return _joined(answers)


def _counted_from(sent: int, error: InvalidInput) -> InvalidInput:
    """Return the error about a row of a batch with the row's number among all rows."""
    row = error.metadata.get("row", "")
    if not sent or not row.isdecimal():
        return error
    number = int(row) + sent
    message = str(error).replace(f"row {row} ", f"row {number} ", 1)
    return InvalidInput(message, **{**error.metadata, "row": number})


def _numbers(inputs: npt.ArrayLike) -> tuple[Array, str]:
    """Return the inputs little-endian, and their datatype in the protocol."""
    array = number_array("inputs", inputs)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    datatype = _TYPES.get(array.dtype.name)
    if datatype is None:
        raise InvalidType(
            f"inputs: must be numbers, got {array.dtype}; known: {', '.join(_TYPES)}"
        )
    little = array.dtype if datatype == "BF16" else array.dtype.newbyteorder("<")
    return array.astype(little, copy=False), datatype


def _shaped(array: Array, row_shape: tuple[int, ...]) -> Array:
    try:
        return shaped_rows(array, row_shape)
    except ValueError as error:
        raise InvalidArgument(f"inputs: {error}") from error


def shaped_rows(array: Array, row_shape: tuple[int, ...]) -> Array:
    """Return the rows in the model's shape; raises ValueError if that would be a guess.

    Rows may be vectors, or lack or have axes of length 1. Rows with axes in another order hold
    as many numbers, but in the wrong places.
    """
    if array.ndim == 0:
        raise ValueError(f"one number, no rows; the model takes rows of shape {row_shape}")
    own = array.shape[1:]
    if own == row_shape:
        return array
    is_flat = min(len(own), len(row_shape)) <= 1 and math.prod(own) == math.prod(row_shape)
    if is_flat or [n for n in own if n != 1] == [n for n in row_shape if n != 1]:
        return array.reshape(len(array), *row_shape)
    hint = ""
    flat_row = array.ndim == 1 and len(array) == math.prod(row_shape)
    if array.shape == row_shape or flat_row:
        hint = _ONE_ROW
    elif sorted(own) == sorted(row_shape):
        hint = "; put the axes into that order (numpy.moveaxis, numpy.transpose)"
    elif [n for n in array.shape if n != 1] == [n for n in row_shape if n != 1]:
        hint = _ONE_ROW
    elif array.shape[-1:] != row_shape and array.shape[:-1] == row_shape:
        hint = "; are samples the last axis? They are the first: numpy.moveaxis(x, -1, 0)"
    raise ValueError(f"rows of shape {own}; the model takes {row_shape}{hint}")


def _batches(array: Array, metadata: pb.ModelMetadataResponse) -> Iterator[Array]:
    """Yield parts of the rows, in order; one empty part if there are no rows."""
    answer = sum(8 * math.prod(output.shape[1:]) for output in metadata.outputs) + _NAME_BYTES
    row = max(math.prod(array.shape[1:]) * array.dtype.itemsize, answer)
    count = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // row))
    for start in range(0, max(1, len(array)), count):
        yield array[start : start + count]


def _joined(answers: list[pb.ModelInferResponse]) -> Prediction:
    first = answers[0]
    parts: dict[str, list[Array]] = {}
    for answer in answers:
        for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
            parts.setdefault(output.name, []).append(_array(output, content))
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Prediction(
        version=first.parameters["version"].int64_param,
        step=first.parameters["step"].int64_param,
        digest=first.parameters["digest"].string_param,
        outputs=whole["outputs"],
        classes=whole.get("class"),
        labels=whole.get("label"),
    )


def _array(output: pb.ModelInferResponse.InferOutputTensor, content: bytes) -> Array:
    if output.datatype == "BYTES":
        return np.array(_texts(content), np.str_)
    dtype = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}[output.datatype]
    return np.frombuffer(content, dtype).reshape(tuple(output.shape))


def _texts(content: bytes) -> list[str]:
    found = []
    place = 0
    while place < len(content):
        end = place + 4 + int.from_bytes(content[place : place + 4], "little")
        found.append(content[place + 4 : end].decode())
        place = end
    return found
