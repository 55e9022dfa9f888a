"""Inputs and outputs of a model in the inference protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dbp.errors import InvalidInput, nearest
from dbp.rpc.channel import MAX_REQUEST_BYTES
from dbp.service.inference.tensor_codec import encoded_texts, shape_text
from dbp.train.model.trained_model import TrainedModel

INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
CLASS: Final = "class"
LABEL: Final = "label"
SCORES: Final = "scores"

# Largest message; a little of it is left for fields other than contents.
MAX_MESSAGE_BYTES: Final = MAX_REQUEST_BYTES
MAX_CONTENT_BYTES: Final = MAX_MESSAGE_BYTES - (1 << 20)
MAX_ROWS: Final = 1 << 16

_WIDEST: Final = 8


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: name, datatype, shape of one row and its size limit in bytes."""

    name: str
    datatype: str
    row_shape: tuple[int, ...]
    row_bytes: int

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {shape_text(self.row_shape)}"


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs; ``outputs`` are sent unless others, or ``scores``, are requested."""

    inputs: TensorSpec
    outputs: tuple[TensorSpec, ...]
    scores: TensorSpec
    labels: tuple[bytes, ...]
    max_rows: int

    def chosen(self, names: Iterable[str]) -> tuple[TensorSpec, ...]:
        """Return the outputs with these names, or all but the scores. InvalidInput."""
        known = {spec.name: spec for spec in (*self.outputs, self.scores)}
        found: dict[str, TensorSpec] = {}
        for name in names:
            if name not in known:
                raise InvalidInput(
                    f"outputs: no output {name[:64]!r}{nearest(name, list(known)) or ';'} "
                    f"known: {', '.join(known)}"
                )
            if name in found:
                raise InvalidInput(f"outputs: {name!r} is asked for twice")
            found[name] = known[name]
        return tuple(found.values()) or self.outputs


def signature_of(saved: TrainedModel) -> Signature:
    """Return the signature of a model."""
    model = saved.model
    datatype = "FP64" if model.dtype.itemsize == _WIDEST else "FP32"

    def floats(name: str, shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(name, datatype, shape, math.prod(shape) * model.dtype.itemsize)

    outputs = [floats(OUTPUTS, model.output_shape)]
    labels: tuple[bytes, ...] = ()
    if model.loss.target_kind() == "class":
        outputs.append(TensorSpec(CLASS, "INT64", (), 8))
        if saved.class_names:
            labels = encoded_texts(saved.labels)
            outputs.append(TensorSpec(LABEL, "BYTES", (), max(map(len, labels))))
    inputs = floats(INPUTS, model.input_shape)
    scores = floats(SCORES, model.output_shape)
    answer_bytes = sum(spec.row_bytes for spec in (*outputs, scores))
    widest = max(1, inputs.row_bytes, answer_bytes)
    max_rows = max(1, min(MAX_ROWS, MAX_CONTENT_BYTES // widest))
    return Signature(inputs, tuple(outputs), scores, labels, max_rows)
