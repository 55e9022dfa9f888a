"""Models whose parameters a test chooses, published as a run publishes them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from dbp.job.snapshot import encode_header, manifest_of
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.version_convert import manifest_to_proto
from dbp.train.model.trained_model import TrainedModel, _Metadata
from dbp.v1 import job_pb2, worker_service_pb2
from tests.service.setups import Run, Service

Tensors = Mapping[str, np.ndarray]

NAMES = ("zero", "un", "zwei, drei")


def metadata(
    *layers: Mapping[str, Any],
    inputs: tuple[int, ...],
    loss: str = "softmax_cross_entropy",
    classes: tuple[str, ...] = (),
    scaling: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Metadata of a parameter file about its model."""
    strings = {
        "dbp.model": json.dumps({"layers": list(layers), "loss": {"kind": loss}}),
        "dbp.input_shape": json.dumps(list(inputs)),
        "dbp.scaling": json.dumps(scaling or {"kind": "none"}),
    }
    return strings | ({"dbp.classes": json.dumps(list(classes))} if classes else {})


def classifier(**more: Any) -> dict[str, str]:
    """64 inputs, 3 classes, with the scaling of pixels."""
    return metadata(
        {"kind": "dense", "units": 16},
        {"kind": "relu"},
        {"kind": "dense", "units": 3},
        **{
            "inputs": (64,),
            "classes": NAMES,
            "scaling": {"kind": "unit", "scale": 16.0},
        }
        | more,
    )


def regression() -> dict[str, str]:
    """Inputs of shape (2, 3), two values."""
    return metadata(
        {"kind": "flatten"}, {"kind": "dense", "units": 2}, inputs=(2, 3),
        loss="mean_squared_error",
    )  # fmt: skip


def constant() -> dict[str, str]:
    """4 inputs; each of 5 outputs is the bias, whatever the inputs are, if the weight is 0."""
    return metadata({"kind": "dense", "units": 5}, inputs=(4,), loss="mean_squared_error")


def drawn(strings: Mapping[str, str], dtype: str = "float32", seed: int = 0) -> Tensors:
    """Random parameters of a model."""
    shapes = model_shapes(strings)
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def model_shapes(strings: Mapping[str, str]) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a model's parameters and state."""
    model, _ = _Metadata(strings, "here").model("float32")
    return model.tensor_shapes


def content(tensors: Tensors, strings: Mapping[str, str]) -> tuple[Any, bytes]:
    """Manifest and data section."""
    (dtype,) = {array.dtype for array in tensors.values()}
    shapes = {name: array.shape for name, array in tensors.items()}
    data = b"".join(array.tobytes() for array in tensors.values())
    return manifest_of(shapes, {4: "F32", 8: "F64"}[dtype.itemsize], strings), data


def saved(tensors: Tensors, strings: Mapping[str, str]) -> TrainedModel:
    """The same model here."""
    manifest, data = content(tensors, strings)
    return TrainedModel.from_bytes(encode_header(manifest) + data, "here")


async def publish(
    service: Service, run: Run, step: int, tensors: Tensors, strings: Mapping[str, str]
) -> job_pb2.ParameterVersion:
    """Publish a model as a version."""
    manifest, data = content(tensors, {**strings, "dbp.step": str(step)})
    header = worker_service_pb2.PublishHeader(
        job=job_name(run.id), attempt=1, step=step, manifest=manifest_to_proto(manifest)
    )

    async def parts() -> AsyncIterator[worker_service_pb2.PublishParametersRequest]:
        yield worker_service_pb2.PublishParametersRequest(header=header)
        for start in range(0, len(data), 1 << 20):
            part = data[start : start + (1 << 20)]
            yield worker_service_pb2.PublishParametersRequest(data=part)

    answer = await service.worker.PublishParameters(parts(), metadata=run.credentials)
    version: job_pb2.ParameterVersion = answer.version
    return version
