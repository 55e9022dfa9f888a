"""`dbp evaluate` of classes and of values: tables, JSON and the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dbp
from dbp.cli.main import dbp as command
from dbp.errors import InvalidInput, MissingDependency
from tests.cli.setups import run
from tests.deadline import DEADLINE
from tests.train.fit_setups import samples, spec

X, Y = samples()
NAMES = ("setosa", "versicolor", "virginica")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a table whose classes have names."""
    folder = tmp_path_factory.mktemp("table")
    names = np.array(NAMES)[Y]
    rows = [",".join(map(str, [*row, name])) for row, name in zip(X, names, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,d,e,kind", *rows]) + "\n")
    document = spec() | {
        "data": {
            "train": {"kind": "csv", "path": str(folder / "rows.csv"), "target": "kind"},
            "test": {"kind": "csv", "path": str(folder / "rows.csv"), "target": "kind"},
        }
    }
    document["train"] = {"epochs": 3}
    dbp.fit(document, run=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a regression."""
    folder = tmp_path_factory.mktemp("values")
    np.savez(folder / "rows.npz", x=X, y=X.sum(axis=1))
    reader = {"kind": "npz", "path": str(folder / "rows.npz")}
    model: Mapping[str, Any] = {
        "layers": [{"kind": "dense", "units": 1}], "loss": "mean_squared_error"
    }  # fmt: skip
    data = {"train": reader, "test": reader}
    dbp.fit(spec() | {"data": data, "model": model}, run=folder / "run")
    return folder / "run"


def evaluated(*arguments: object) -> Result:
    found = CliRunner().invoke(command, ["evaluate", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_the_tables_follow_the_figures_with_the_names_of_the_classes(table: Path) -> None:
    lines = evaluated(table).stdout.splitlines()

    assert lines[0].startswith(f"test set, {len(X)} samples: loss ")
    assert lines[2] == "Confusion matrix: rows are actual classes, columns predicted classes."
    assert lines[3].split() == [*NAMES]
    counts = [[int(cell.replace(".", "0")) for cell in line.split()[1:]] for line in lines[4:7]]
    assert [sum(row) for row in counts] == np.bincount(Y).tolist()
    assert lines[8].split() == ["class", "precision", "recall", "F1", "support"]
    accuracy = f"{np.trace(counts) / len(X):.4f}"
    assert lines[12].split() == ["accuracy", accuracy, str(len(X))]
    assert lines[0].endswith(f"accuracy {accuracy}")


def test_the_json_holds_the_report_beside_the_figures(table: Path) -> None:
    found = json.loads(evaluated(table, "--output", "json").stdout)

    report = found["class_report"]
    assert [entry["class"] for entry in report["classes"]] == [*NAMES]
    assert np.array(report["confusion_matrix"]).sum() == found["samples"] == len(X)
    assert report["accuracy"] == pytest.approx(found["accuracy"])
    assert "file" not in found


def test_the_picture_is_written_beside_the_tables(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "confusion.svg"

    found = evaluated(table, "-o", file)
    as_json = evaluated(table, "-o", file, "--output", "json")

    assert found.stdout.splitlines()[-1] == f"written to {file}"
    assert json.loads(as_json.stdout)["file"] == str(file)
    assert file.read_text().count("virginica") == 2


def test_a_regression_has_its_figures_only(values: Path, tmp_path: Path) -> None:
    assert len(evaluated(values).stdout.splitlines()) == 1
    assert "class_report" not in json.loads(evaluated(values, "--output", "json").stdout)

    with pytest.raises(InvalidInput, match="-o: the model gives values, which have no confus"):
        evaluated(values, "-o", tmp_path / "confusion.svg")
    assert not list(tmp_path.iterdir())


def test_a_picture_of_another_kind_is_refused_before_anything_is_written(
    table: Path, tmp_path: Path
) -> None:
    done = run("evaluate", str(table), "-o", str(tmp_path / "confusion.pdf"))

    assert (done.returncode, done.stdout) == (2, "")
    assert "the suffix chooses the format: .png, .svg; got '.pdf'" in done.stderr


def test_a_picture_never_replaces_the_parameters(table: Path) -> None:
    before = (table / "parameters.safetensors").read_bytes()
    link = table.parent / "link.png"
    link.symlink_to(table / "parameters.safetensors")

    with pytest.raises(InvalidInput, match="is an input of this command"):
        evaluated(table, "-o", link)

    assert (table / "parameters.safetensors").read_bytes() == before


def test_without_matplotlib_tables_remain_and_a_picture_names_the_extra(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    assert "Confusion matrix" in evaluated(table).stdout
    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[plot\]'"):
        evaluated(table, "-o", tmp_path / "confusion.png")


def test_matplotlib_is_loaded_for_a_picture_only(table: Path) -> None:
    script = (
        "import sys\nfrom dbp.cli.main import main\n"
        f"try:\n    main(['evaluate', {str(table)!r}])\n"
        "finally:\n    print('matplotlib' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE
    )

    assert (done.returncode, done.stderr) == (0, "False\n")


def test_python_gets_the_same_report(table: Path) -> None:
    found = dbp.load(table).class_report(X, np.array(NAMES)[Y])

    assert isinstance(found, dbp.ClassReport)
    assert str(found) in evaluated(table).stdout
    assert found.names == NAMES


def test_python_is_refused_a_report_on_values(values: Path) -> None:
    with pytest.raises(InvalidInput, match="class_report: the model gives values"):
        dbp.load(values).class_report(X, X.sum(axis=1))
