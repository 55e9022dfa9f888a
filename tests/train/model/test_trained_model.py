from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from safetensors.torch import load_file as load_torch

from dbp.data.array_dataset import arrays
from dbp.data.preprocessing import Scaling
from dbp.errors import InvalidData, InvalidFile
from dbp.job.spec.resolve import resolve
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.run_folder import RunFolder
from dbp.train.run_spec import run_spec
from dbp.train.trainer import Trainer
from tests.closeness import assert_close
from tests.train.setups import document


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A parameter file of a short run on the digits, and the run's own figures."""
    spec = document(hidden=16, classes=10, dtype="float32", batch_size=32, epochs=2)
    spec["data"] = {
        "train": {"kind": "digits"},
        "test": {"kind": "digits", "part": "test"},
        "scale": "standard",
    }
    inspected = inspect(resolve(spec))
    folder = RunFolder.prepare(tmp_path_factory.mktemp("run"), inspected.resolved.document)
    outcome = Trainer(build(inspected), SoloCommunicator(), sink=folder).run()
    return folder.path / "parameters.safetensors", dict(outcome.metrics)


def digits(part: str = "test") -> Any:
    return run_spec(
        resolve(document(classes=10) | {"data": {"train": {"kind": "digits", "part": part}}})
    ).train_reader.open()


def raw_inputs() -> np.ndarray:
    inputs = np.empty((360, 8, 8))
    digits().take_inputs(np.arange(360), inputs)
    return inputs


def test_the_parameter_file_is_enough_to_reproduce_the_metrics_of_the_run(
    trained: tuple[Path, dict[str, float]],
) -> None:
    path, figures = trained

    found = TrainedModel.load(path).evaluate(digits())

    assert found["loss"] == figures["test_loss"]
    assert found["accuracy"] == figures["test_accuracy"] > 0.5


def test_predictions_are_those_of_pytorch_on_the_same_file(
    trained: tuple[Path, dict[str, float]],
) -> None:
    path, _ = trained
    saved = TrainedModel.load(path)
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10)
    )
    network.load_state_dict(load_torch(path))
    inputs = raw_inputs()
    scaled = ((inputs - saved.scaling.mean) / saved.scaling.scale).astype(np.float32)

    with torch.no_grad():
        expected = network(torch.tensor(scaled.reshape(360, 64)))

    assert_close(saved.predict(inputs, block_rows=100), expected.numpy(), 1e-5)
    assert_close(saved.probabilities(inputs), expected.softmax(1).numpy(), 1e-5)
    assert saved.class_names == tuple("0123456789")


def test_a_file_saved_again_by_others_is_read_by_its_names(
    trained: tuple[Path, dict[str, float]],
) -> None:
    path, _ = trained
    saved = TrainedModel.load(path)
    tensors = dict(reversed(load(path.read_bytes()).items()))

    again = TrainedModel.from_bytes(save(tensors, dict(saved.metadata)), "again")

    np.testing.assert_array_equal(again.parameters.vector, saved.parameters.vector)


@pytest.mark.parametrize("type_", [np.float16, ml_dtypes.bfloat16])
def test_a_file_of_half_the_size_is_read_as_float32(
    trained: tuple[Path, dict[str, float]], type_: Any
) -> None:
    saved = TrainedModel.load(trained[0])
    halves = {
        name: array.astype(type_) for name, array in load(trained[0].read_bytes()).items()
    }

    found = TrainedModel.from_bytes(save(halves, dict(saved.metadata)), "half")

    assert found.parameters.vector.dtype == found.model.dtype == np.float32
    for name, array in halves.items():
        np.testing.assert_array_equal(found.parameters.views[name], array.astype(np.float32))
    assert found.evaluate(digits())["accuracy"] > 0.5


def test_a_file_of_other_types_is_refused(trained: tuple[Path, dict[str, float]]) -> None:
    saved = TrainedModel.load(trained[0])
    tensors = load(trained[0].read_bytes())
    whole = {name: array.astype(np.int8) for name, array in tensors.items()}
    mixed = tensors | {"0.bias": tensors["0.bias"].astype(np.float16)}

    for given, types in ((whole, r"\['I8'\]"), (mixed, r"\['F16', 'F32'\]")):
        with pytest.raises(InvalidFile, match=rf"{types}; expected one of F64, F32, F16, BF16"):
            TrainedModel.from_bytes(save(given, dict(saved.metadata)), "other")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"dbp.model": None}, "has no dbp.model"),
        ({"dbp.model": "{"}, "dbp.model: "),
        ({"dbp.model": "[]"}, "expected a JSON dict"),
        ({"dbp.model": json.dumps({"layers": [{"kind": "os.system"}], "loss": "x"})},
         r"layers\[0\].kind: unknown 'os.system'"),
        ({"dbp.input_shape": "[3]"}, "do not fit its model"),
        ({"dbp.scaling": "{}"}, "dbp.scaling"),
        ({"dbp.model": "[" * 100_000}, "dbp.model: maximum recursion depth"),
        ({"dbp.model": json.dumps({"layers": 5, "loss": "x"})},
         "dbp.model: layers: 5, expected a list"),
        ({"dbp.model": json.dumps({"layers": None, "loss": "softmax_cross_entropy"})},
         "needs an output of shape"),
        ({"dbp.model": json.dumps({"layers": [], "loss": "x", "metrics": 5})},
         "dbp.model: metrics: 5, expected a list"),
        ({"dbp.model": json.dumps({"layers": [], "loss": "softmax_cross_entropy",
                                   "metrics": [{}]})}, r"metrics\[0\].kind: is required"),
        ({"dbp.input_shape": "[8.0, 8.0]"}, r"dbp.input_shape: .*expected sizes"),
        ({"dbp.input_shape": "[true, 64]"}, r"dbp.input_shape: .*expected sizes"),
        ({"dbp.scaling": json.dumps({"kind": "standard", "mean": [0, 0], "scale": [1, 1]})},
         r"dbp.scaling: for inputs of shape \(2,\)"),
    ],
    ids=[
        "absent", "no JSON", "no table", "unknown kind", "another shape", "scaling", "deep",
        "layers", "no layers", "metrics", "metric", "fractions", "truth", "scaling's shape",
    ],
)  # fmt: skip
def test_damaged_metadata_is_refused_with_the_file_and_the_key(
    trained: tuple[Path, dict[str, float]], change: dict[str, str | None], pattern: str
) -> None:
    path, _ = trained
    metadata = {**TrainedModel.load(path).metadata, **change}
    kept = {name: text for name, text in metadata.items() if text is not None}
    content = save(load(path.read_bytes()), kept)

    with pytest.raises(InvalidFile, match=pattern) as caught:
        TrainedModel.from_bytes(content, "the-file")

    assert str(caught.value).startswith("the-file: ")


def test_a_file_cut_off_anywhere_is_refused(trained: tuple[Path, dict[str, float]]) -> None:
    content = trained[0].read_bytes()

    for length in (0, 7, 8, 100, len(content) - 1):
        with pytest.raises(InvalidFile, match="the-file"):
            TrainedModel.from_bytes(content[:length], "the-file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"absent\.safetensors: No such file"):
        TrainedModel.load(tmp_path / "absent.safetensors")


def test_inputs_of_another_shape_are_refused(trained: tuple[Path, dict[str, float]]) -> None:
    saved = TrainedModel.load(trained[0])

    with pytest.raises(InvalidData, match=r"shape \(2, 64\); the model takes \(n, 8, 8\)"):
        saved.predict(np.zeros((2, 64)))
    with pytest.raises(InvalidData, match=r"inputs of shape \(5,\)"):
        saved.evaluate(arrays(np.zeros((3, 5)), np.zeros(3, np.int64)))


def test_targets_the_model_cannot_give_are_refused(
    trained: tuple[Path, dict[str, float]],
) -> None:
    saved = TrainedModel.load(trained[0])

    with pytest.raises(InvalidData, match=r"class 10, .*allowed 0 to 9"):
        saved.evaluate(arrays(np.zeros((3, 8, 8)), np.array([0, 10, 1])))
    with pytest.raises(InvalidData, match="targets of kind values"):
        saved.evaluate(arrays(np.zeros((3, 8, 8)), np.zeros((3, 10))))


def test_samples_without_weight_are_not_evaluated(
    trained: tuple[Path, dict[str, float]],
) -> None:
    data = arrays(np.zeros((3, 8, 8)), np.array([0, 1, 2]), weights=np.zeros(3))

    with pytest.raises(InvalidData, match="the weight of all 3 samples is 0"):
        TrainedModel.load(trained[0]).evaluate(data)


def test_a_sample_whose_outputs_are_not_finite_has_no_class(
    trained: tuple[Path, dict[str, float]],
) -> None:
    saved = TrainedModel.load(trained[0])
    inputs = raw_inputs()
    inputs[:7] = 0.0
    saved.scaling = Scaling()
    saved.parameters["0.bias"][:] = 0
    saved.parameters["2.weight"][:] = 3e38

    with pytest.raises(InvalidData, match="targets: sample 7: the model's outputs are not fin"):
        saved.evaluate(arrays(inputs, np.zeros(360, np.int64)))
    with pytest.raises(InvalidData, match=r"row 7 \(counted from 0\)"):
        saved.predict(inputs)


def test_an_empty_batch_gives_an_empty_answer(trained: tuple[Path, dict[str, float]]) -> None:
    assert TrainedModel.load(trained[0]).predict(np.zeros((0, 8, 8))).shape == (0, 10)
