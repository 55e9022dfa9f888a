"""Convert a trained model to ONNX, npz or safetensors, as the bytes of a file."""

from __future__ import annotations

import io
import json
from typing import Any, Final, Literal

import numpy as np

from dbp.errors import MissingDependency
from dbp.job.snapshot import encode_header, manifest_of
from dbp.train.model.parameter_metadata import SAFETENSORS_DTYPES
from dbp.train.model.trained_model import TrainedModel

Format = Literal["onnx", "npz", "safetensors"]

# Key of an npz archive for the metadata, as a JSON text.
METADATA: Final = "__metadata__"


def exported(saved: TrainedModel, form: Format) -> bytes:
    """Return the bytes of a file in this format.

    ``safetensors`` contains the parameters by name, as PyTorch reads them, and dbp's metadata;
    ``npz`` the same for ``numpy.load``; ``onnx`` the whole computation. Raises
    MissingDependency without the package onnx, InvalidInput for a model that ONNX cannot
    represent.
    """
    if form == "onnx":
        return _onnx(saved)
    return _npz(saved) if form == "npz" else _safetensors(saved)


def _safetensors(saved: TrainedModel) -> bytes:
    parameters = saved.parameters
    dtype = SAFETENSORS_DTYPES[parameters.vector.dtype]
    header = encode_header(manifest_of(parameters.shapes, dtype, saved.metadata))
    return header + parameters.vector.tobytes()


def _npz(saved: TrainedModel) -> bytes:
    text = json.dumps(dict(saved.metadata), ensure_ascii=False)
    named: dict[str, Any] = {**saved.parameters.views, METADATA: np.array(text)}
    file = io.BytesIO()
    np.savez(file, **named)
    return file.getvalue()


def _onnx(saved: TrainedModel) -> bytes:
    try:
        from dbp.train.onnx.export import onnx_model
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingDependency(
            "ONNX needs the package onnx; install it with: pip install 'dbp[onnx]'"
        ) from error
    return onnx_model(saved).SerializeToString(deterministic=True)
