"""The keys of parameter files' metadata: each is documented, each example is what dbp reads."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from dbp.job.snapshot import ROLLBACKS, Manifest, decode_header, step_of
from dbp.job.spec.resolve import resolve
from dbp.nn.relu import ReLU
from dbp.parallel.communicator import SoloCommunicator
from dbp.registry import GROUPS
from dbp.rpc.version_convert import manifest_to_proto
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from dbp.train.model.parameter_metadata import manifest_at, metadata_at, metadata_of
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.run_folder import RunFolder
from dbp.train.trainer import Trainer
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1 import worker_service_pb2
from dbp.v1.parameter_pb2 import CAST_BF16
from tests.service.setups import selector, serving

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "protos" / "dbp" / "v1" / "parameter.proto"
ENTRY = re.compile(r"`((?:dbp\.)?\w+)`: .*\sExample:\s+`([^`]*)`", re.S)

# Texts of the form of a key that name something else.
NO_KEYS = {"dbp.audit", "dbp.sqlite", *(f"dbp.{group}" for group in GROUPS)}


def documented() -> dict[str, str]:
    """Each key's example."""
    comment = PROTO.read_text().partition("// Metadata of the file")[2].partition("map<")[0]
    text = "\n".join(line.strip().removeprefix("//").strip() for line in comment.split("\n"))
    found = [ENTRY.fullmatch(part.strip()) for part in text.split("\n\n")[1:]]
    return {match[1]: match[2].replace("\n", " ") for match in found if match is not None}


EXAMPLES = documented()


def literals() -> Iterator[str]:
    """Every text in dbp's code that has the form of a key."""
    for path in (ROOT / "dbp").rglob("*.py"):
        if path.parts[-2] not in ("v1", "inference"):
            for node in ast.walk(ast.parse(path.read_text())):
                text = getattr(node, "value", None)
                if isinstance(text, str) and re.fullmatch(r"dbp\.[a-z_]+", text):
                    yield text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table with names for everything."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(5)
    lines = ["age,income,bought,count,city"]
    for _ in range(40):
        age, income = rng.normal(40, 10), rng.normal(3, 1)
        lines.append(f"{age},{income},{'yes' if age > 40 else 'no'},1,here")
    (folder / "loans.csv").write_text("\n".join(lines) + "\n")
    reader = {
        "kind": "csv", "path": str(folder / "loans.csv"), "target": "bought",
        "weight": "count", "inputs": ["age", "income"],
    }  # fmt: skip
    spec = {
        "name": "loans",
        "data": {"train": reader, "scale": "standard"},
        "model": {
            "layers": [
                {"kind": "dense", "units": 3, "activation": "relu"},
                {"kind": "dense", "units": 2},
            ],
            "loss": "softmax_cross_entropy",
        },
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"batch_size": 10, "epochs": 2},
    }  # fmt: skip
    inspected = inspect(resolve(spec))
    setup = build(inspected)
    run = RunFolder.prepare(folder / "run", inspected.resolved.document)
    Trainer(setup, SoloCommunicator(), sink=run).run()
    rolled = manifest_at(setup, metadata_at(metadata_of(setup), 4, {}), rollbacks=1)
    assert ROLLBACKS in rolled.metadata
    return run.path / "parameters.safetensors"


def manifest_of_file(path: Path) -> tuple[Manifest, bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return decode_header(content[8 : 8 + length], str(path)), content[8 + length :]


async def test_every_key_that_is_written_is_documented_and_no_other(
    trained: Path, tmp_path: Path
) -> None:
    manifest, data = manifest_of_file(trained)

    async with serving(tmp_path / "state") as service:
        run = await service.start()
        header = worker_service_pb2.PublishHeader(
            job=f"jobs/{run.id}", attempt=1, step=8, manifest=manifest_to_proto(manifest)
        )
        parts = [
            worker_service_pb2.PublishParametersRequest(header=header),
            worker_service_pb2.PublishParametersRequest(data=data),
        ]
        await service.worker.PublishParameters(iter(parts), metadata=run.credentials)
        request = pb.StreamParametersRequest(selector=selector(run.id), cast=CAST_BF16)
        sent = (await service.parameters.StreamParameters(request).read()).header.manifest

    assert {*sent.metadata, ROLLBACKS} == set(EXAMPLES)


def test_no_other_key_stands_in_the_code() -> None:
    found = set(literals())
    modules = {text for text in found - NO_KEYS if importlib.util.find_spec(text) is not None}

    assert found - modules - NO_KEYS <= set(EXAMPLES)
    assert set(EXAMPLES) - {"format"} <= found


def test_the_examples_are_the_metadata_of_one_file_that_is_read() -> None:
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (2, 3), "2.bias": (2,)}
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    found = TrainedModel.from_bytes(save(zeros, EXAMPLES), "the example")

    assert dict(found.model.tensor_shapes) == shapes, "an activation takes a position"
    assert isinstance(found.model.layers[1], ReLU)
    assert found.class_names == ("no", "yes")
    assert found.columns.inputs == ("age", "income")
    assert found.columns.others.targets == ("bought",)
    assert found.columns.others.weight == "count"
    assert found.predict(np.ones((1, 2))).shape == (1, 2)
    assert found.scaling.mean is not None
    assert (found.scaling.mean.tolist(), found.scaling.scale.tolist()) == (
        [40.25, 0],
        [12.5, 3],
    )


def test_the_examples_are_what_the_code_writes(trained: Path) -> None:
    written = manifest_of_file(trained)[0].metadata

    for key in ("dbp.model", "dbp.input_shape", "dbp.classes", "dbp.input_names",
                "dbp.other_columns", "format"):  # fmt: skip
        example, real = EXAMPLES[key], written[key]
        same = example == real if key == "format" else json.loads(example) == json.loads(real)
        assert same, f"{key}: {real}"
    scaling = TrainedModel.load(trained).scaling
    assert json.loads(EXAMPLES["dbp.scaling"]).keys() == json.loads(scaling.to_json()).keys()
    assert json.loads(EXAMPLES["dbp.metrics"]).keys() <= {
        "training_loss", "training_accuracy", "validation_accuracy", "learning_rate",
    }  # fmt: skip
    assert step_of(Manifest((), EXAMPLES), 0) == 400


def test_a_resolved_spec_has_the_activation_as_a_layer_of_its_own() -> None:
    layers = [
        {"kind": "dense", "units": 64, "activation": "relu"},
        {"kind": "dense", "units": 10},
    ]
    model = {"layers": layers, "loss": "softmax_cross_entropy"}
    spec = {
        "name": "x", "data": {"train": "digits"}, "model": model,
        "optimizer": "sgd", "train": {"epochs": 1},
    }  # fmt: skip

    document: Any = resolve(spec).document

    kinds = [layer["kind"] for layer in document["model"]["layers"]]
    assert kinds == ["dense", "relu", "dense"]
    proto = (PROTO.parent / "job.proto").read_text()
    assert "`{kind: dense, units: 64, activation: relu}`, `{kind: dense, units: 10}`" in proto
