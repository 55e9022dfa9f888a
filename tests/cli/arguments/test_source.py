"""The argument that names trained parameters: a run folder, a file or a job's id."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dbp.cli.arguments.source import source_of
from dbp.errors import InvalidFile, InvalidInput, JobNotFound, Unavailable
from tests.cli.setups import output, run, write_spec

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of 20 steps with checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    spec = write_spec(folder / "small.toml", steps=20)
    spec.write_text(spec.read_text() + "\n[checkpoint]\nevery_steps = 10\n")
    output("train", str(spec), "--run", str(folder / "run"), "-q")
    return folder / "run"


@pytest.fixture
def unfinished(trained: Path, tmp_path: Path) -> Path:
    """The same run as it was before its end."""
    folder = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    (folder / "parameters.safetensors").unlink()
    (folder / "result.json").unlink()
    return folder


def test_a_path_that_exists_comes_before_a_job_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-7k2m9q").mkdir()
    (tmp_path / "weights").touch()

    assert source_of("digits-7k2m9q").path == Path("digits-7k2m9q")
    assert source_of("weights").file == Path("weights")
    for job in ("jobs/digits-7k2m9q", "digits-7k2m9", "digits"):
        source = source_of(job)
        assert source.path is None
        assert source.file is None
        source.refuse(version=3)


@pytest.mark.parametrize("text", ["w.safetensors", "runs/x", "Digits", "", "../x", "a b"])
def test_neither_path_nor_job_id_is_refused_without_a_request(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidFile, match=r"no such file or folder.*dbp jobs lists them"):
        source_of(text)


def test_a_similar_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()

    with pytest.raises(InvalidFile, match=r"did you mean 'weights\.safetensors'"):
        source_of(str(tmp_path / "weigths.safetensors"))


@pytest.mark.parametrize("kind", [JobNotFound, Unavailable])
def test_an_unknown_job_may_have_been_meant_as_a_path(kind: type[JobNotFound]) -> None:
    with (
        pytest.raises(kind, match=r"^smal: no file or folder here, .* name: gone") as caught,
        source_of("smal").asking(),
    ):
        raise kind("gone", job="smal")
    assert caught.value.metadata == {"job": "smal"}


def test_options_of_jobs_are_refused_for_a_path(tmp_path: Path) -> None:
    source = source_of(str(tmp_path))
    source.refuse(version=None, label="", wait=False)
    with pytest.raises(InvalidInput, match="leave out --version, --max-staleness"):
        source.refuse(version=3, label="", max_staleness=True)


def test_the_tensors_of_a_run_are_listed_as_those_of_a_job(trained: Path) -> None:
    text = output("params", str(trained))
    content = json.loads(output("params", str(trained), "--output", "json"))

    file = trained / "parameters.safetensors"
    tensors = load_file(file)
    assert text.startswith(f"{file}: step 20, sha256 {content['digest'][:16]}\nTENSOR ")
    assert content["file"] == str(file)
    assert (content["step"], content["job"], content["version"]) == (20, None, None)
    assert {row["name"]: row["shape"] for row in content["tensors"]} == {
        name: list(tensor.shape) for name, tensor in tensors.items()
    }
    for row in content["tensors"]:
        norm = float(np.linalg.norm(tensors[row["name"]].astype(np.float64)))
        assert row["norm"] == pytest.approx(norm, rel=1e-12)
        assert row["name"] in text


def test_a_part_of_a_run_is_written_in_half_the_size(trained: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.safetensors"
    output("params", str(trained), "--tensor", "*.bias", "--cast", "f16", "-o", str(part))

    whole, found = load_file(trained / "parameters.safetensors"), load_file(part)
    assert found.keys() == {name for name in whole if name.endswith(".bias")}
    for name, tensor in found.items():
        assert np.array_equal(tensor, whole[name].astype(np.float16))
    same = tmp_path / "same.safetensors"
    output("params", str(trained), "-o", str(same))
    assert same.read_bytes() == (trained / "parameters.safetensors").read_bytes()


def test_any_safetensors_file_is_listed(tmp_path: Path) -> None:
    save_file({"w": np.ones((2, 2), np.float32)}, tmp_path / "w.safetensors")

    text = output("params", str(tmp_path / "w.safetensors"))

    assert "step" not in text
    assert text.splitlines()[2].split() == ["w", "2", "x", "2", "float32", "2"]


def test_a_version_of_a_job_in_a_file_says_whose_it_is(ended: str, weights: Path) -> None:
    assert f"version {json_number(weights)} of job {ended}, step 300" in output(
        "params", str(weights)
    )


def json_number(path: Path) -> int:
    content = json.loads(output("params", str(path), "--output", "json"))
    number: int = content["version"]
    return number


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--version", "3"], 2, "not a job of a service; leave out --version"),
        (["--step", "0", "--watch"], 2, "leave out --step, --watch"),
        (["--verify"], 2, "leave out --verify"),
        (["--tensor", "9.*"], 4, "9.*"),
        (["-o", "{run}/parameters.safetensors"], 2, "is an input of this command"),
    ],
)
def test_unsuitable_options_are_refused_for_a_run(
    trained: Path, arguments: list[str], code: int, words: str
) -> None:
    done = run("params", str(trained), *(text.format(run=trained) for text in arguments))

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


@pytest.mark.parametrize("size", [0, 5, -1])
def test_a_damaged_file_is_named(trained: Path, tmp_path: Path, size: int) -> None:
    content = (trained / "parameters.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[:size])

    done = run("params", str(path))

    assert done.returncode == 2
    assert str(path) in done.stderr


def test_a_run_is_evaluated_predicted_with_and_exported(trained: Path, tmp_path: Path) -> None:
    file = str(trained / "parameters.safetensors")
    rows = tmp_path / "rows.npy"
    np.save(rows, np.random.default_rng(0).uniform(0, 16, (3, 8, 8)).astype(np.float32))

    assert output("evaluate", str(trained)) == output("evaluate", file)
    assert output("predict", str(trained), str(rows)) == output("predict", file, str(rows))
    output("export", str(trained), "-o", str(tmp_path / "w.npz"))
    assert (tmp_path / "w.npz").exists()


def test_every_command_names_the_checkpoint_of_an_unfinished_run(
    unfinished: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.npy"
    np.save(rows, np.zeros((1, 8, 8), np.float32))
    for arguments in (
        ("evaluate", str(unfinished)),
        ("predict", str(unfinished), str(rows)),
        ("params", str(unfinished)),
        ("export", str(unfinished), "-o", str(tmp_path / "w.npz")),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "its newest checkpoint is of step 20" in done.stderr
        assert f"dbp train --resume {unfinished}" in done.stderr


def test_the_command_in_the_error_makes_the_parameters(unfinished: Path, trained: Path) -> None:
    error = run("params", str(unfinished)).stderr
    command = error.rstrip().rpartition(": dbp ")[2].split()

    assert run(*command, "-q").returncode == 0
    for folder in (trained, unfinished):
        assert output("evaluate", str(folder)) == output("evaluate", str(trained))


def test_the_command_for_an_ended_run_makes_its_parameters_again(
    trained: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    (folder / "parameters.safetensors").unlink()

    error = run("params", str(folder)).stderr
    command = error.rstrip().rpartition(": dbp ")[2].replace("NEW_FOLDER", f"{tmp_path}/new")

    assert run(*command.split(), "-q").returncode == 0
    assert output("evaluate", f"{tmp_path}/new") == output("evaluate", str(trained))


def test_parameters_from_before_the_run_was_continued_are_noted(
    trained: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    (folder / "result.json").unlink()

    done = run("evaluate", str(folder))

    assert done.returncode == 0
    assert "the run has been continued since and has not ended" in done.stderr


def test_verify_takes_the_folder_of_a_run_and_no_file_of_it(trained: Path) -> None:
    file = trained / "parameters.safetensors"
    done = run("verify", str(file))
    absent = run("verify", str(trained / "absent"))

    assert output("verify", str(trained)).endswith("the same bits\n")
    assert (done.returncode, absent.returncode) == (2, 2)
    assert f"{file}: is a file; name the run's folder" in done.stderr
    assert "no such file or folder" in absent.stderr


def test_any_version_of_a_job_is_evaluated(service: str, ended: str) -> None:
    newest = output("evaluate", ended, service=service)

    for version in ("latest", "step:300"):
        assert output("evaluate", ended, "--version", version, service=service) == newest
    best = output("evaluate", ended, "--label", "best", service=service)
    assert best == output("evaluate", ended, "--version", "best", service=service)
    both = run("evaluate", ended, "--version", "1", "--label", "best", service=service)
    assert both.returncode == 2
    assert "name only one of them" in both.stderr


def test_a_misspelt_name_may_be_a_path_or_a_job(service: str, tmp_path: Path) -> None:
    asked = run("evaluate", "smal-x", service=service)
    alone = run("evaluate", "smal-x", service=NOBODY)

    assert (asked.returncode, alone.returncode) == (4, 3)
    for done in (asked, alone):
        assert "smal-x: no file or folder here, and no " in done.stderr


def test_verify_names_the_missing_folder_before_the_service(tmp_path: Path) -> None:
    alone = run("verify", "smal-x", service=NOBODY)
    upper = run("verify", "NO_SUCH_FOLDER", service=NOBODY)
    file = tmp_path / "file"
    file.touch()
    plain = run("verify", str(file), service=NOBODY)

    assert alone.returncode == 3
    assert alone.stderr.startswith("error: smal-x: no file or folder here, and no service")
    assert upper.returncode == 2
    assert upper.stderr.startswith("error: NO_SUCH_FOLDER: no such file or folder")
    assert NOBODY not in upper.stderr
    assert plain.returncode == 2
    assert "is a file; name the run's folder" in plain.stderr
