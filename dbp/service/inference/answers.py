"""Compute the answer to one inference request by one version. Pure computation, no I/O."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidData, InvalidInput, ResourceExhausted, nearest
from dbp.inference import open_inference_pb2 as pb
from dbp.quantities import count_text
from dbp.service.inference.answer_bytes import AnswerHeads, finished
from dbp.service.inference.signature import (
    CLASS,
    INPUTS,
    LABEL,
    MAX_MESSAGE_BYTES,
    OUTPUTS,
    Signature,
    TensorSpec,
)
from dbp.service.inference.tensor_codec import decoded
from dbp.train.model.trained_model import TrainedModel

Array = npt.NDArray[Any]

# How JSON clients put tensors; in gRPC they say nothing.
_HARMLESS: Final = frozenset({"binary_data", "binary_data_size"})


@dataclass(frozen=True)
class Times:
    """Durations of the parts of an answer, in nanoseconds."""

    inputs: int
    model: int
    outputs: int


def rows_of(request: pb.ModelInferRequest, signature: Signature) -> int:
    """Return the number of rows in the request; InvalidInput, ResourceExhausted: too many."""
    tensors = request.inputs
    if len(tensors) != 1 or tensors[0].name != INPUTS:
        raise InvalidInput(_wrong_inputs(request, signature))
    shape = tensors[0].shape
    rows = shape[0] if shape else 0
    if rows > signature.max_rows:
        raise ResourceExhausted(
            f"{INPUTS}: {rows} rows are too many for one request: at most "
            f"{count_text(signature.max_rows, 'row')} of this model, so that neither inputs "
            "nor outputs "
            f"exceed the {MAX_MESSAGE_BYTES} bytes of a message; split them"
        )
    return rows


def inputs_of(request: pb.ModelInferRequest, signature: Signature) -> Array:
    """Return the inputs as sent, shape (rows, *input_shape); InvalidInput."""
    (tensor,) = request.inputs
    if tensor.parameters:
        refuse_parameters(INPUTS, tensor.parameters)
    raw = request.raw_input_contents
    if not raw:
        typed = tensor.HasField("contents") or 0 in tensor.shape
        if not typed:
            raise InvalidInput(f"{INPUTS}: no contents: neither raw_input_contents nor typed")
        return decoded(tensor, None, signature.inputs.row_shape)
    if tensor.HasField("contents"):
        raise InvalidInput(f"{INPUTS}: both raw_input_contents and typed contents: send one")
    if len(raw) != 1:
        raise InvalidInput(f"raw_input_contents: there is 1 input, got {len(raw)} contents")
    return decoded(tensor, raw[0], signature.inputs.row_shape)


def refuse_parameters(name: str, parameters: Iterable[str]) -> None:
    """Raise InvalidInput for parameters that change a tensor, such as shared memory."""
    for strange in parameters:
        if strange not in _HARMLESS:
            raise InvalidInput(
                f"{name}: parameter {strange[:64]!r} is not known: tensors travel in the "
                "messages, as they are"
            )


def answer(
    request: pb.ModelInferRequest, saved: TrainedModel, signature: Signature, heads: AnswerHeads
) -> tuple[bytes, Times]:
    """Return a serialized ModelInferResponse and the time it took.

    ``heads`` names the version. InvalidInput: a request that does not fit the model, and rows
    with inputs or outputs that are not finite.
    """
    begin = time.perf_counter_ns()
    names, wanted = _wanted(request, signature)
    inputs = inputs_of(request, signature)
    ready = time.perf_counter_ns()
    try:
        outputs = _Outputs(saved, signature, saved.predict(inputs))
        contents = [outputs.content(spec) for spec in wanted]
    except InvalidData as error:  # a row that is not finite
        raise InvalidInput(f"{INPUTS}: {error}", **error.metadata) from error
    done = time.perf_counter_ns()
    head = heads.head(request.model_name, names, wanted, len(inputs))
    whole = finished(head, request.id, contents)
    return whole, Times(ready - begin, done - ready, time.perf_counter_ns() - done)


def _wanted(
    request: pb.ModelInferRequest, signature: Signature
) -> tuple[tuple[str, ...], tuple[TensorSpec, ...]]:
    """Return the requested names of outputs, and the outputs that they mean."""
    if not request.outputs:
        return (), signature.outputs
    # Of more than there are, the first ones hold a strange one or one twice.
    asked = request.outputs[: len(signature.outputs) + 2]
    names = tuple([output.name for output in asked])
    wanted = signature.chosen(names)
    for output in asked:
        if output.parameters:
            refuse_parameters(output.name, output.parameters)
    return names, wanted


class _Outputs:
    """All outputs that a model's scores can give; classes are computed once."""

    def __init__(self, saved: TrainedModel, signature: Signature, scores: Array) -> None:
        self._saved = saved
        self._signature = signature
        self._scores = scores
        self._classes: Array | None = None

    def content(self, spec: TensorSpec) -> bytes:
        """Return an output's raw contents."""
        if spec.name == CLASS:
            return _little(self._found().astype(np.int64, copy=False)).tobytes()
        if spec.name == LABEL:
            labels = self._signature.labels
            return b"".join([labels[number] for number in self._found().tolist()])
        values = self._scores
        if spec.name == OUTPUTS:
            values = self._saved.activate(values)
        return _little(values).tobytes()

    def _found(self) -> Array:
        if self._classes is None:
            self._classes = self._saved.model.loss.classes(self._scores)
        return self._classes


def _little(values: Array) -> Array:
    return values if sys.byteorder == "little" else values.byteswap()


def _wrong_inputs(request: pb.ModelInferRequest, signature: Signature) -> str:
    wanted = f"the model takes one input: {signature.inputs}"
    if not request.inputs:
        return f"{INPUTS}: missing; {wanted}"
    for name in [tensor.name for tensor in request.inputs[:2]]:
        if name != INPUTS:
            hint = nearest(name, [INPUTS]) or ";"
            return f"inputs: no input {name[:64]!r}{hint} {wanted}"
    return f"{INPUTS}: given {len(request.inputs)} times; {wanted}"
