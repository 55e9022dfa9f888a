"""`dbp predict` and `dbp evaluate`: with a job and with a file, and never with MPI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.cli.setups import environment, output, run, write_spec
from tests.closeness import assert_close
from tests.deadline import DEADLINE

WITHOUT_MPI = """
import sys
from dbp.cli.main import main
try:
    main({arguments!r})
finally:
    print(*(name for name in ("mpi4py", "torch") if name in sys.modules), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The first 50 images, as rows, and their classes."""
    data = load_digits()
    return data.data[:50].astype(np.float32), data.target[:50]


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(params=["npy", "npy images", "csv", "idx"])
def inputs(
    request: pytest.FixtureRequest, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> Path:
    """The same images in each form that is read."""
    rows = digits[0]
    if request.param == "csv":
        path = tmp_path / "rows.csv"
        np.savetxt(path, rows, delimiter=",", fmt="%g")
    elif request.param == "idx":
        path = tmp_path / "rows-idx3-ubyte"
        path.write_bytes(idx(rows.reshape(50, 8, 8)))
    else:
        path = tmp_path / "rows.npy"
        np.save(path, rows.reshape(50, 8, 8) if "images" in request.param else rows)
    return path


def test_classes_of_images_in_any_form(
    weights: Path, inputs: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    found = [int(line) for line in output("predict", str(weights), str(inputs)).split()]

    assert np.mean(np.array(found) == digits[1]) > 0.9


def test_a_job_answers_like_its_file(
    service: str, ended: str, weights: Path, tmp_path: Path, digits: tuple[np.ndarray, ...]
) -> None:
    np.save(tmp_path / "rows.npy", digits[0])
    rows = str(tmp_path / "rows.npy")

    job = output("predict", ended, rows, "--output", "json", service=service)
    file = output("predict", str(weights), rows, "--output", "json")

    assert job == file
    assert len(json.loads(job)) == 50


@pytest.mark.parametrize("type_", ["float16", "uint8", "float64", "bool"])
def test_a_job_takes_numbers_of_any_type(
    service: str,
    ended: str,
    weights: Path,
    tmp_path: Path,
    digits: tuple[np.ndarray, ...],
    type_: str,
) -> None:
    rows = str(tmp_path / "rows.npy")
    np.save(rows, digits[0].reshape(50, 8, 8).astype(type_))

    output("predict", ended, rows, "--proba", "-o", f"{rows}.job.npy", service=service)
    output("predict", str(weights), rows, "--proba", "-o", f"{rows}.file.npy")

    found = np.load(f"{rows}.job.npy")
    np.testing.assert_array_equal(found, np.load(f"{rows}.file.npy"))


@pytest.mark.parametrize("cast", ["f16", "bf16"])
def test_parameters_of_half_the_size_predict_and_can_be_exported(
    service: str, ended: str, tmp_path: Path, digits: tuple[np.ndarray, ...], cast: str
) -> None:
    rows, half = str(tmp_path / "rows.npy"), str(tmp_path / "half.safetensors")
    np.save(rows, digits[0])
    output("params", ended, "--cast", cast, "-o", half, service=service)

    found = json.loads(output("predict", half, rows, "--output", "json"))
    output("export", half, "-o", str(tmp_path / "half.npz"))

    assert np.mean(np.array(found).astype(int) == digits[1]) > 0.9
    assert np.load(tmp_path / "half.npz")["0.weight"].dtype == np.float32


def test_inputs_too_large_for_the_model_are_reported_by_a_job_and_by_a_file(
    service: str, ended: str, weights: Path, tmp_path: Path, digits: tuple[np.ndarray, ...]
) -> None:
    rows = tmp_path / "rows.npy"
    inputs = digits[0].astype(np.float64)
    inputs[7, 3] = 1e300
    np.save(rows, inputs)

    job = run("predict", ended, str(rows), service=service)
    file = run("predict", str(weights), str(rows))

    for done in (job, file):
        assert (done.returncode, done.stdout) == (2, "")
        assert "Warning" not in done.stderr
        assert str(rows) in done.stderr
        assert "row 7" in done.stderr


def test_a_version_and_a_label_of_a_job(
    service: str, ended: str, tmp_path: Path, digits: tuple[np.ndarray, ...]
) -> None:
    rows = str(tmp_path / "rows.npy")
    np.save(rows, digits[0])
    newest = json.loads(output("show", ended, "--output", "json", service=service))
    number = str(newest["latest_parameters"]["version"])

    plain = output("predict", ended, rows, service=service)
    asked = output("predict", ended, rows, "--version", number, service=service)
    latest = output("predict", ended, rows, "--version", "latest", service=service)
    step = run("predict", ended, rows, "--version", "step:300", service=service)
    early = run("predict", ended, rows, "--version", "99999", service=service)
    strange = run("predict", ended, rows, "--label", "nowhere", service=service)
    both = run("predict", ended, rows, "--version", "1", "--label", "a", service=service)

    assert asked == latest == plain
    assert step.returncode == 2
    assert "takes a number, latest or a label, got step:N" in step.stderr
    assert early.returncode == strange.returncode != 0
    assert f"the newest is {number}" in early.stderr
    assert "no label 'nowhere'" in strange.stderr
    assert "name only one of them" in both.stderr


def test_rows_that_do_not_fit_a_job_are_reported_with_their_file(
    service: str, ended: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.npy"
    np.save(rows, np.zeros((3, 63), np.float32))

    done = run("predict", ended, str(rows), service=service)

    assert done.returncode == 2
    assert f"{rows}: inputs: rows of shape (63,); the model takes (8, 8)" in done.stderr


def test_a_file_has_no_versions(weights: Path, tmp_path: Path) -> None:
    done = run("predict", str(weights), str(tmp_path / "rows.npy"), "--version", "1")

    assert done.returncode == 2
    assert "not a job of a service; leave out --version" in done.stderr


def test_probabilities_sum_to_one(
    weights: Path, tmp_path: Path, digits: tuple[np.ndarray, ...]
) -> None:
    np.save(tmp_path / "rows.npy", digits[0])
    asked = ("predict", str(weights), str(tmp_path / "rows.npy"), "--proba")

    told = np.array(json.loads(output(*asked, "--output", "json")))
    output(*asked, "-o", str(tmp_path / "out.npy"))
    written = json.loads(output(*asked, "-o", str(tmp_path / "out.csv"), "--output", "json"))

    assert told.shape == (50, 10)
    assert (told >= 0).all()
    np.testing.assert_allclose(told.sum(axis=1), 1, rtol=1e-5)
    assert_close(np.load(tmp_path / "out.npy"), told, 1e-6)
    assert_close(np.loadtxt(tmp_path / "out.csv", delimiter=","), told, 1e-6)
    assert written == {"file": str(tmp_path / "out.csv"), "rows": 50}


def test_classes_can_be_written(
    weights: Path, tmp_path: Path, digits: tuple[np.ndarray, ...]
) -> None:
    np.save(tmp_path / "rows.npy", digits[0])
    asked = ("predict", str(weights), str(tmp_path / "rows.npy"))

    told = json.loads(output(*asked, "--output", "json"))
    output(*asked, "-o", str(tmp_path / "classes.npy"))

    assert np.load(tmp_path / "classes.npy", allow_pickle=False).tolist() == told


def test_names_of_classes_can_be_written(tmp_path: Path) -> None:
    from dbp.cli.predict.answers import write_answers

    write_answers(tmp_path / "names.npy", np.array(["cat", "zebra"]))

    found = np.load(tmp_path / "names.npy", allow_pickle=False)
    assert found.tolist() == ["cat", "zebra"]


WRONG = {
    "too few columns": np.zeros((3, 63), np.float32),
    "too many columns": np.zeros((3, 65), np.float32),
    "one image alone": np.zeros(64, np.float32),
    "a number": np.float32(1),
}


@pytest.mark.parametrize("form", ["npy", "csv", "idx"])
@pytest.mark.parametrize("array", WRONG.values(), ids=WRONG)
def test_inputs_of_another_shape_are_bad_input(
    weights: Path, tmp_path: Path, array: np.ndarray, form: str
) -> None:
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        np.savetxt(path, np.atleast_1d(array), delimiter=",")
    elif form == "idx":
        path.write_bytes(idx(array))
    else:
        np.save(path, array)

    done = run("predict", str(weights), str(path))

    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "unexpected" not in done.stderr


def test_files_that_are_none_are_bad_input(weights: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.npy"
    text.write_text("no array")
    strings = tmp_path / "strings.npy"
    np.save(strings, np.array([["a"] * 64]))
    for source, path in (
        (weights, tmp_path / "absent.npy"),
        (weights, text),
        (weights, strings),
        (text, strings),
        (tmp_path / "absent.safetensors", text),
    ):
        done = run("predict", str(source), str(path))

        assert done.returncode == 2, done.stderr
        assert "unexpected" not in done.stderr


def test_another_form_of_output_is_refused_before_anything(tmp_path: Path) -> None:
    done = run("predict", "any", "any.npy", "-o", str(tmp_path / "out.txt"))

    assert done.returncode == 2
    assert ".npy, .csv, .tsv" in done.stderr


def test_evaluation_of_a_job_and_of_a_file_agree_and_load_no_mpi(
    service: str, ended: str, weights: Path, spec: Path
) -> None:
    results = []
    for source in ([ended, "--service", service], [str(weights), "--spec", str(spec)]):
        arguments = ["evaluate", *source, "--output", "json"]
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_MPI.format(arguments=arguments)],
            capture_output=True, text=True, timeout=DEADLINE, env=environment(),
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "\n")
        results.append(json.loads(done.stdout))

    assert results[0] == results[1]
    assert results[0]["samples"] == 360
    assert results[0]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("part", "samples"), [("test", 360), ("validation", 144), ("train", 1293)]
)
def test_evaluation_on_each_part(weights: Path, spec: Path, part: str, samples: int) -> None:
    text = output("evaluate", str(weights), "--spec", str(spec), "--on", part)

    assert text.startswith(f"{part} set, {samples:,} samples: ")
    assert "accuracy 0.9" in text


def test_evaluation_needs_a_spec_and_a_set(weights: Path, tmp_path: Path) -> None:
    alone = run("evaluate", str(weights))
    assert alone.returncode == 2
    assert "--spec FILE" in alone.stderr

    spec = write_spec(tmp_path / "job.toml")
    spec.write_text(spec.read_text().replace('test = { kind = "digits", part = "test" }', ""))
    without = run("evaluate", str(weights), "--spec", str(spec))
    assert without.returncode == 2
    assert "data.test" in without.stderr


def test_files_and_patterns_are_read_together_and_written_as_tsv(
    weights: Path, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    rows = digits[0]
    for number in range(2):
        np.savetxt(tmp_path / f"part-{number}.csv", rows[number * 20 :][:20], delimiter=",")
    np.savetxt(tmp_path / "rest.tsv", rows[40:], delimiter="\t")
    np.save(tmp_path / "all.npy", rows)
    files = (f"{tmp_path}/part-*.csv", f"{tmp_path}/rest.tsv")

    output("predict", str(weights), *files, "--proba", "-o", str(tmp_path / "out.tsv"))
    whole = output(
        "predict", str(weights), f"{tmp_path}/all.npy", "--proba", "--output", "json"
    )

    found = np.loadtxt(tmp_path / "out.tsv", delimiter="\t", dtype=np.float32)
    assert_close(found, np.array(json.loads(whole), np.float32), relative=1e-5)


def test_a_number_too_large_in_a_text_is_named_by_file_line_and_column(
    service: str, ended: str, weights: Path, tmp_path: Path
) -> None:
    rows = np.ones((3, 64))
    rows[2, 5] = 1e41
    np.savetxt(tmp_path / "good.csv", np.ones((4, 64)), delimiter=",")
    np.savetxt(tmp_path / "high.csv", rows, delimiter=",")

    job = run("predict", ended, f"{tmp_path}/*.csv", service=service)
    file = run("predict", str(weights), f"{tmp_path}/*.csv")

    for done in (job, file):
        assert done.returncode == 2
        assert f"{tmp_path}/high.csv:3: " in done.stderr
        assert "1e+41 is too large" in done.stderr
