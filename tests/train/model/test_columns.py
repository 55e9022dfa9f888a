"""A model keeps the names of its inputs; other tables are matched to them by name."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dbp.column_names import INPUT_NAMES, OTHER_COLUMNS, columns_of
from dbp.data.array_dataset import arrays
from dbp.data.csv import CSV
from dbp.errors import InvalidData, InvalidFile, InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.job.spec.shapes import check_shapes
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.build import build, prepare
from dbp.train.check.inspection import Inspected, inspect, read_headers
from dbp.train.model.export import exported
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.run_folder import RunFolder
from dbp.train.run_spec import run_spec
from dbp.train.trainer import Trainer
from tests.train.setups import document

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 2)) * [1.0, 100.0]
Y = 3 * X[:, 0] - 0.02 * X[:, 1] + 7


def write(path: Path, *names: str) -> Path:
    """The rows with their columns in this order."""
    columns = {"a": X[:, 0], "b": X[:, 1], "y": Y, "w": np.ones(40)}
    rows = zip(*(columns.get(name, Y) for name in names), strict=True)
    lines = [",".join(names), *(",".join(map(repr, map(float, row))) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def spec(train: Path, **data: Any) -> dict[str, Any]:
    found = document(
        hidden=4,
        classes=1,
        loss="mean_squared_error",
        dtype="float64",
        batch_size=10,
        epochs=20,
    )
    found["data"] = {
        "train": {"kind": "csv", "path": str(train), "target": "y"}, "scale": "standard"
    } | data  # fmt: skip
    found["checkpoint"] = {"every_steps": 20, "keep": 1}
    return found


def table(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "csv", "path": str(path), "target": "y", **options}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A parameter file of inputs a and b, and the run's figures on the same rows as b, a."""
    folder = tmp_path_factory.mktemp("columns")
    same = table(write(folder / "same.csv", "b", "y", "a"))
    inspected = inspect(resolve(spec(write(folder / "train.csv", "a", "b", "y"), test=same)))
    run = RunFolder.prepare(folder / "run", inspected.resolved.document)
    outcome = Trainer(
        build(inspected),
        SoloCommunicator(),
        sink=run,
        checkpoints=folder / "run" / "checkpoints",
    ).run()
    return run.path / "parameters.safetensors", dict(outcome.metrics)


def test_the_test_set_is_matched_by_name_while_training(
    trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    plain = CSV(path=str(write(tmp_path / "t.csv", "a", "b", "y")), target="y").open()

    expected = TrainedModel.load(trained[0]).evaluate(plain)

    assert trained[1]["test_loss"] == expected["loss"]
    assert expected["mean_absolute_error"] < 2


@pytest.mark.parametrize("order", ["bay", "yba", "ayb", "aby"])
def test_evaluation_matches_columns_by_name(
    trained: tuple[Path, dict[str, float]], tmp_path: Path, order: str
) -> None:
    other = CSV(path=str(write(tmp_path / "t.csv", *order)), target="y").open()

    assert TrainedModel.load(trained[0]).evaluate(other)["loss"] == trained[1]["test_loss"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("aB", "no input 'b', did you mean 'B'?"),
        ("a", "no input 'b'; the inputs of the model are 'a', 'b'"),
        ("abc", "'c' is no input of the model"),
    ],
)
def test_evaluation_refuses_other_columns_by_name(
    trained: tuple[Path, dict[str, float]], tmp_path: Path, names: str, message: str
) -> None:
    other = CSV(path=str(write(tmp_path / "t.csv", *names, "y")), target="y").open()

    with pytest.raises(InvalidData) as caught:
        TrainedModel.load(trained[0]).evaluate(other)

    assert message in str(caught.value)


def test_sets_without_names_are_evaluated_by_position(
    trained: tuple[Path, dict[str, float]],
) -> None:
    assert (
        TrainedModel.load(trained[0]).evaluate(arrays(X, Y))["loss"] == trained[1]["test_loss"]
    )


def test_a_file_without_names_is_evaluated_by_position(
    trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    saved = TrainedModel.load(trained[0])
    strings = {k: v for k, v in saved.metadata.items() if k not in (INPUT_NAMES, OTHER_COLUMNS)}
    saved.metadata = strings
    old = TrainedModel.from_bytes(exported(saved, "safetensors"), "old")
    path = write(tmp_path / "t.csv", "a", "b", "y")
    path.write_text(path.read_text().replace("a,b,y", "p,q,y"))

    found = old.evaluate(CSV(path=str(path), target="y").open())

    assert old.columns.inputs == ()
    assert found["loss"] == trained[1]["test_loss"]


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("aBy", r"data\.{part}: no input 'b', did you mean 'B'\?"),
        ("abcy", r"data\.{part}: 'c' is no input of data\.train; name the inputs"),
    ],
)
def test_spec_check_refuses_other_columns_by_name(
    tmp_path: Path, part: str, names: str, message: str
) -> None:
    train = write(tmp_path / "train.csv", "a", "b", "y")
    other = {part: table(write(tmp_path / "other.csv", *names))}

    with pytest.raises(InvalidData, match=message.format(part=part)):
        inspect(resolve(spec(train, **other)))


def test_columns_are_kept_with_the_model_and_its_exports(
    trained: tuple[Path, dict[str, float]],
) -> None:
    saved = TrainedModel.load(trained[0])
    (step,) = (trained[0].parent / "checkpoints").glob("step-*")
    files = {
        "checkpoint": TrainedModel.load(step / "parameters.safetensors"),
        "safetensors": TrainedModel.from_bytes(exported(saved, "safetensors"), "exported"),
    }

    npz = np.load(io.BytesIO(exported(saved, "npz")))
    model = onnx.load_from_string(exported(saved, "onnx"))
    strings = [
        json.loads(str(npz["__metadata__"])),
        {entry.key: entry.value for entry in model.metadata_props},
    ]

    assert saved.columns.inputs == ("a", "b")
    for found in strings:
        assert columns_of(found, "exported") == saved.columns
    assert saved.columns.others.targets == ("y",)
    for file in files.values():
        assert file.columns == saved.columns
    assert json.loads(saved.metadata["dbp.input_names"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("bay", r'in another order; .* in data\.train: inputs = \["a", "b"\]'),
        ("aBy", r"other inputs .*: no input 'b', did you mean 'B'\?"),
    ],
)
def test_a_run_does_not_start_from_parameters_of_other_inputs(
    trained: tuple[Path, dict[str, float]], tmp_path: Path, names: str, message: str
) -> None:
    found = spec(write(tmp_path / "train.csv", *names))
    found["train"]["initial_parameters"] = str(trained[0])

    resolved = run_spec(resolve(found))
    pattern = rf"initial_parameters: .*safetensors: .*{message}"
    with pytest.raises(InvalidSpec, match=pattern):
        inspect(resolved)
    facts = read_headers(resolved)
    shapes = check_shapes(resolved, facts.train.input_shape)
    with pytest.raises(InvalidSpec, match=pattern):
        prepare(Inspected(resolved, facts, shapes))


def test_a_run_starts_from_parameters_of_the_same_inputs_or_of_unknown_ones(
    trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    found = spec(write(tmp_path / "train.csv", "y", "a", "b"))
    found["train"]["initial_parameters"] = str(trained[0])
    inspect(resolve(found))

    (tmp_path / "plain.csv").write_text("2,1,3\n" * 40)
    found["data"]["train"] = {"kind": "csv", "path": str(tmp_path / "plain.csv")}
    found["data"]["train"]["target_kind"] = "values"
    inspect(resolve(found))


def test_names_of_any_characters_survive(tmp_path: Path) -> None:
    names = ('say "hi"', "größe\\m²", "a,b", "x\u2028 \t😀", "")
    strings = {INPUT_NAMES: json.dumps(names), OTHER_COLUMNS: json.dumps({"targets": ["'"]})}

    found = columns_of(strings, "here", (5,))

    assert (found.inputs, found.others.targets) == (names, ("'",))


@pytest.mark.parametrize(
    ("names", "others", "message"),
    [
        ("[", "{}", "x: dbp.input_names: Expecting value"),
        ('{"a": 1}', "{}", "x: dbp.input_names: .* expected a JSON list"),
        ('["a", 1]', "{}", "expected distinct names"),
        ('["a", "a"]', "{}", "expected distinct names"),
        ('["a"]', "{}", "1 name; the model takes 2 inputs"),
        ('["a", "b"]', "[]", "dbp.other_columns: .* expected a JSON dict"),
        ('["a", "b"]', '{"targets": "y"}', "dbp.other_columns: .* expected names"),
        ('["a", "b"]', '{"weight": 1}', "dbp.other_columns: .* expected names"),
    ],
)
def test_damaged_names_are_refused_with_the_file_and_the_key(
    names: str, others: str, message: str
) -> None:
    with pytest.raises(InvalidFile, match=message):
        columns_of({INPUT_NAMES: names, OTHER_COLUMNS: others}, "x", (2,))
