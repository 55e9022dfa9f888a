# ruff: noqa: E501 - a table of cases reads best with one case a line
"""Bad input, through the real command: exit code 2, the field and the fact, nothing made.

Every case runs in a folder of its own, where afterwards there must be nothing new. Most run
in this process through the command's own entry function; a sample of all tables runs as
real processes, ``dbp train`` among them, which must say the same as ``dbp spec check``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.deadline import DEADLINE
from tests.system.bad_inputs import (
    BASE,
    DATA,
    FIELDS,
    FILES,
    listing,
    run,
    text_of,
    write_data_case,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS: list[tuple[str, list[str], str]] = [
    ("no spec named", ["spec", "check"], "Missing argument 'FILE'"),
    ("an unknown command", ["trian", "job.toml"], "no such command 'trian', did you mean 'train'?"),
    ("an unknown option", ["spec", "check", "job.toml", "--worker", "2"], "--worker"),
    ("no workers", ["spec", "check", "job.toml", "--workers", "0"], "'--workers'"),
    ("workers in words", ["spec", "check", "job.toml", "--workers", "two"], "'two' is not a valid integer"),
    ("another output", ["spec", "resolve", "job.toml", "--output", "yaml"], "'yaml'"),
    ("a spec that is not there", ["spec", "resolve", "jbo.toml"], "jbo.toml: no such file, did you mean 'job.toml'?"),
    ("a folder that is not there", ["spec", "check", "a/job.toml"], "a/job.toml: no such file; there is no folder a either"),
    ("an unknown component", ["components", "optimzers"], "no group or kind 'optimzers', did you mean 'optimizers'?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"), [case[1:] for case in COMMANDS], ids=[case[0] for case in COMMANDS]
)
def test_a_bad_command_line_is_reported(
    arguments: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "job.toml").write_text(BASE)

    assert told in run(*arguments, capsys=capsys)
    assert listing(folder) == ["job.toml"]


def test_all_that_is_wrong_is_reported_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = BASE.replace("units = 32", "unit = 32").replace('"sgd"', '"sdg"')
    text = text.replace("= 0.1 }", "= 2 }").replace("epochs = 2", "epochs = 0")
    (folder / "job.toml").write_text(text)

    told = run("spec", "check", "job.toml", capsys=capsys).splitlines()

    assert told[0] == "error: job.toml: 5 problems"
    assert [line.split(":")[1].strip() for line in told[1:]] == [
        "data.validation.fraction",
        "model.layers[0].unit",
        "model.layers[0].units",
        "optimizer.kind",
        "train.epochs",
    ]


def test_violations_are_reported_to_programs_one_by_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "job.toml").write_text(BASE.replace("seed = 7", "seed = -1"))

    told = json.loads(run("spec", "check", "job.toml", "--output", "json", capsys=capsys))

    (violation,) = told["error"]["violations"]
    assert violation["path"] == "seed"
    assert told["error"]["kind"] == "InvalidSpec"


FIELDS_ASKED_TWICE = {
    "an unknown option", "an unknown optimizer", "NaN", "zero layers", "neither epochs nor steps",
    "a huge model", "fewer outputs than classes", "mean squared error of classes",
}  # fmt: skip


DATA_ASKED_TWICE = {
    "missing files", "a variable that is not set", "npy: a short body", "IDX: truncated",
    "npz: no archive", "npy: float targets for classes",
}  # fmt: skip


def process(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "dbp", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    return done.returncode, done.stdout, done.stderr


def asked_twice() -> Iterator[tuple[str, Callable[[Path], None]]]:
    for case in FIELDS:
        if case.name in FIELDS_ASKED_TWICE:
            text = text_of(case)
            yield case.name, partial(write_spec, text)
    for data in DATA:
        if data.name in DATA_ASKED_TWICE:
            yield data.name, partial(write_data_case, data)


def write_spec(text: str, folder: Path) -> None:
    (folder / "job.toml").write_text(text)


TWICE = list(asked_twice())


@pytest.mark.parametrize("make", [make for _, make in TWICE], ids=[name for name, _ in TWICE])
def test_training_refuses_as_checking_does_and_makes_nothing(
    make: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(folder)
    before = listing(folder)

    code, out, err = process(folder, "train", "job.toml")

    assert code == 2
    assert out == ""
    assert err == run("spec", "check", "job.toml", capsys=capsys)
    assert listing(folder) == before


def test_as_many_cases_are_asked_twice_as_are_named() -> None:
    assert len(TWICE) == len(FIELDS_ASKED_TWICE) + len(DATA_ASKED_TWICE)
    assert len(FIELDS) + len(FILES) + len(DATA) + len(COMMANDS) >= 130


def test_faults_in_samples_end_a_training_with_exit_code_2(folder: Path) -> None:
    case = next(case for case in DATA if case.name == "npy: NaN inputs")
    write_data_case(case, folder)

    code, _, err = process(folder, "train", "job.toml", "--run", "run")

    assert code == 2
    assert "x.npy: sample 10, element [1]: nan, expected a finite number" in err
    assert "Traceback" not in err
    assert not list(folder.rglob("*.safetensors"))
