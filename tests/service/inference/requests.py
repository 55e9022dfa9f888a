"""Requests of the inference protocol."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton

from dbp.inference import open_inference_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def sent(array: np.ndarray, datatype: str = "", name: str = "inputs") -> triton.InferInput:
    types = {"f4": "FP32", "f8": "FP64", "f2": "FP16", "u1": "UINT8", "i8": "INT64"}
    tensor = triton.InferInput(name, array.shape, datatype or types[array.dtype.str[1:]])
    tensor.set_data_from_numpy(array)
    return tensor


def request(job: str, array: np.ndarray, *outputs: str, **more: Any) -> pb.ModelInferRequest:
    found = pb.ModelInferRequest(model_name=job, **more)
    found.inputs.add(name="inputs", datatype="FP32", shape=array.shape)
    found.raw_input_contents.append(array.astype("<f4").tobytes())
    for output in outputs:
        found.outputs.add(name=output)
    return found


def rows(count: int, shape: tuple[int, ...] = (64,), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 16, (count, *shape)).astype(np.float32)
