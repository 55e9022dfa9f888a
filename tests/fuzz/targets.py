"""Targets of the fuzzer: parsers of foreign bytes, and the only errors that may leave them."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError, Message

from dbp.errors import DbpError, InvalidData, InvalidFile, InvalidSpec, WrongState
from dbp.inference import open_inference_pb2
from dbp.job.snapshot import encode_header
from dbp.job.spec.resolve import resolve
from dbp.rpc.spec_convert import refuse_unknown, spec_from_proto, spec_to_proto
from dbp.service.inference.model_loading import check_buffers
from dbp.train.model.trained_model import TrainedModel
from dbp.v1 import job_pb2, job_service_pb2, parameter_service_pb2, worker_service_pb2
from tests.data.test_fuzz import KINDS, mutate
from tests.job.spec.bad_specs import TEXTS, cases
from tests.service.inference.setups import classifier, content, drawn

Random: TypeAlias = np.random.Generator

# A function that makes an input from random numbers, and one that gives it to a parser, which
# may raise nothing but errors that users are meant to see.
Target: TypeAlias = tuple[Callable[[Random], bytes], Callable[[bytes, Path], None]]

_SPECS: Final = [case.document for case in cases()]
_NUMBERS: Final = (0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 1e308, -0.0, 5e-324, 0.5)
_MESSAGES: Final[tuple[type[Message], ...]] = tuple(
    getattr(module, descriptor.name)
    for module in (
        job_pb2, job_service_pb2, parameter_service_pb2, worker_service_pb2, open_inference_pb2,
    )
    for descriptor in module.DESCRIPTOR.message_types_by_name.values()
)  # fmt: skip


def _spec(random: Random) -> bytes:
    """Return a document of the corpus with some of its values replaced."""
    document = copy.deepcopy(_SPECS[int(random.integers(len(_SPECS)))])
    for _ in range(int(random.integers(0, 4))):
        _replace(document, random)
    return json.dumps(document).encode()


def _replace(value: Any, random: Random) -> None:
    """Replace, add or remove a value somewhere in a tree."""
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(random.integers(len(keys)))]
        below = value[key]
        if isinstance(below, dict | list) and below and random.random() < 0.7:
            value = below
            continue
        match int(random.integers(6)):
            case 0:
                value[key] = _NUMBERS[int(random.integers(len(_NUMBERS)))]
            case 1:
                value[key] = TEXTS[int(random.integers(len(TEXTS)))]
            case 2:
                other = _SPECS[int(random.integers(len(_SPECS)))]
                names = list(other)
                value[key] = copy.deepcopy(other[names[int(random.integers(len(names)))]])
            case 3:
                value[key] = [copy.deepcopy(below)] * int(random.integers(0, 5))
            case 4 if isinstance(value, dict):
                value[f"{key}s"] = value.pop(key)
            case _:
                value[key] = (None, True, math.nan, [], {})[int(random.integers(5))]
        return


def _resolve(data: bytes, folder: Path) -> None:
    try:
        resolved = resolve(json.loads(data))
    except InvalidSpec:
        return
    again = resolve(resolved.document)
    assert again.digest == resolved.digest, "a resolved document changes when it is resolved"


def _wire(random: Random) -> bytes:
    """Return a serialized spec, or any message's few bytes, with bytes changed."""
    document = _SPECS[int(random.integers(len(_SPECS)))]
    try:
        data = spec_to_proto(document).SerializeToString()
    except (DbpError, TypeError, ValueError, OverflowError, AttributeError):
        data = random.bytes(int(random.integers(1, 64)))
    return mutate(data[:4096] or b"\0", random)


def _decode(data: bytes, folder: Path) -> None:
    for message in _MESSAGES:
        with contextlib.suppress(DecodeError):
            message.FromString(data)
    with contextlib.suppress(DecodeError, DbpError):
        refuse_unknown(job_service_pb2.CreateJobRequest.FromString(data))
    with contextlib.suppress(DecodeError, DbpError):
        resolve(spec_from_proto(job_pb2.JobSpec.FromString(data)))


def _file(kind: str) -> Target:
    original, reader_of = KINDS[kind]

    def read(data: bytes, folder: Path) -> None:
        path = folder / "fuzzed"
        path.write_bytes(data)
        try:
            reader_of(path).inspect()
            dataset = reader_of(path).open()
        except InvalidData as error:
            if str(folder) not in str(error):
                raise LookupError(f"the message names no file: {error}") from error
            return
        rows = min(len(dataset), 1000)
        inputs = np.empty((rows, *dataset.info.input_shape))
        try:
            dataset.take_inputs(np.arange(rows), inputs)
        except InvalidData:
            return
        assert np.isfinite(inputs).all()

    return lambda random: mutate(original, random), read


def _model(random: Random) -> bytes:
    """Return a parameter file whose metadata or bytes were changed."""
    strings = classifier(inputs=(4,))
    manifest, data = content(drawn(strings), strings)
    whole = encode_header(manifest) + data
    if random.random() < 0.5:
        return mutate(whole, random)
    model = json.loads(strings["dbp.model"])
    _replace(model, random)
    shape = [int(random.choice([1, 4, 2**20, 2**40])) for _ in range(int(random.integers(4)))]
    strings = {**strings, "dbp.model": json.dumps(model), "dbp.input_shape": json.dumps(shape)}
    manifest, data = content({"0.weight": np.zeros((16, 4), np.float32)}, strings)
    return encode_header(manifest) + data


def _load(data: bytes, folder: Path) -> None:
    try:
        saved = TrainedModel.from_bytes(data, "fuzzed")
        check_buffers("fuzzed", saved.model)
        saved.probabilities(np.zeros((1, *saved.model.input_shape), saved.model.dtype))
    except (InvalidData, InvalidFile, WrongState):
        return
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return  # the service says that the model does not compute


TARGETS: Final[dict[str, Target]] = {
    "spec": (_spec, _resolve),
    "wire": (_wire, _decode),
    "model": (_model, _load),
    **{kind: _file(kind) for kind in KINDS},
}

# Targets whose library ends the process for some damaged files: the service reads these in a
# process of their own, so that such an end is counted and no finding.
APART: Final = ("hdf5", "parquet")
