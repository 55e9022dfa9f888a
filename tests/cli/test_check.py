"""``dbp check`` as users start it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dbp.cli.check import Screen
from tests.cli.setups import environment, run, write_spec
from tests.deadline import DEADLINE

# A package as pip leaves it: a module, and the entry points beside it.
WRONG_LAYER = '''
"""A layer whose backward pass forgets a factor."""

from dataclasses import dataclass

import numpy as np

from dbp.nn.elementwise import Elementwise


@dataclass(frozen=True)
class Cube(Elementwise):
    """y = x^3."""

    def forward(self, parameters, x, workspace):
        def backward(dy, gradients):
            return dy * x * x

        return x**3, backward
'''


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A folder with a plug-in that is deliberately wrong."""
    folder = tmp_path / "site"
    information = folder / "wrong_layers-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / "wrong_layers.py").write_text(WRONG_LAYER)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: wrong-layers\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text("[dbp.layers]\ncube = wrong_layers:Cube\n")
    return folder


def test_a_sound_job_is_proved_line_by_line(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "job.toml")

    done = run("check", str(spec), "--steps", "2")

    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    *lines, last = done.stdout.splitlines()
    assert [line[:7].strip() for line in lines if line.startswith("FAILED")] == []
    assert any(line.startswith("ok      gradient  0.weight (16 x 64): ") for line in lines)
    assert any(line.startswith("warning data      data.train: ") for line in lines)
    assert "2 steps with exact numerics on 1, 2 and 3 ranks: the same bits" in lines[-1]
    assert last.startswith(f"{spec}: ")
    assert last.endswith("1 warning, 0 failed")


def test_a_wrong_plug_in_layer_fails_with_exit_code_1(tmp_path: Path, wrong: Path) -> None:
    spec = write_spec(tmp_path / "job.toml")
    spec.write_text(spec.read_text().replace('activation = "relu"', 'activation = "cube"'))
    command = [sys.executable, "-m", "dbp", "check", str(spec), "--output", "json"]

    done = subprocess.run(
        command, env=environment(PYTHONPATH=str(wrong)), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert report["passed"] is False
    found = [finding for finding in report["findings"] if finding["verdict"] == "failed"]
    assert {finding["subject"] for finding in found} == {"gradient"}
    assert [finding["text"].partition(" ")[0] for finding in found] == ["0.weight", "0.bias"]
    assert "the central difference" in found[0]["text"]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "def __post_init__(self):\n        assert self.__class__ is None",
            "AssertionError: `as",
        ),
        (
            "def output_shape(self, shape):\n        return 1 // 0",
            "ZeroDivisionError: ",
        ),
    ],
)
@pytest.mark.parametrize("command", ["check", "spec check"])
def test_plug_in_that_raises_while_the_spec_is_checked_is_named(
    tmp_path: Path, wrong: Path, method: str, message: str, command: str
) -> None:
    module = wrong / "wrong_layers.py"
    module.write_text(f"{module.read_text()}\n    {method}\n")
    spec = write_spec(tmp_path / "job.toml")
    spec.write_text(spec.read_text().replace('activation = "relu"', 'activation = "cube"'))

    done = subprocess.run(
        [sys.executable, "-m", "dbp", *command.split(), str(spec)],
        env=environment(PYTHONPATH=str(wrong)), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 2, done.stderr
    assert f"model.layers[0].activation: the plug-in Cube raises {message}" in done.stderr
    assert "wrong_layers.py:" in done.stderr


WRONG_READER = """
from dataclasses import dataclass

from dbp.data.digits import Digits
from dbp.plugin import Reader


@dataclass(frozen=True)
class Torn(Reader):
    def inspect(self):
        {inspect}
        return Digits().inspect()

    def open(self):
        return {{}}["rows"]
"""


@pytest.mark.parametrize("inspect", ["pass", "assert self is None"])
def test_reader_plug_in_that_raises_is_named_with_its_field(
    tmp_path: Path, wrong: Path, inspect: str
) -> None:
    (wrong / "torn.py").write_text(WRONG_READER.format(inspect=inspect))
    points = next(wrong.glob("*/entry_points.txt"))
    points.write_text("[dbp.readers]\ntorn = torn:Torn\n")
    spec = write_spec(tmp_path / "job.toml")
    spec.write_text(
        spec.read_text().replace('kind = "digits", part = "train"', 'kind = "torn"')
    )

    done = subprocess.run(
        [sys.executable, "-m", "dbp", "check", str(spec)],
        env=environment(PYTHONPATH=str(wrong)), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    raised = (
        "KeyError: 'rows'" if inspect == "pass" else "AssertionError: `assert self is None`"
    )
    assert done.returncode == 2, done.stderr
    assert f"data.train: the plug-in Torn raises {raised} ({wrong}/torn.py:" in done.stderr


def test_programs_read_the_same_findings(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "job.toml")

    report = json.loads(run("check", str(spec), "--output", "json").stdout)

    assert report["passed"] is True
    assert report["spec"] == str(spec)
    assert {finding["subject"] for finding in report["findings"]} == {
        "data", "gradient", "lanes",
    }  # fmt: skip


def test_a_bad_spec_ends_with_exit_code_2(tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "job.toml")
    spec.write_text(spec.read_text().replace('"adam"', '"adm"'))

    done = run("check", str(spec))

    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean 'adam'" in done.stderr
    assert run("check", str(tmp_path / "none.toml")).returncode == 2


def test_a_terminal_shows_what_is_being_done_and_keeps_the_lines_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = io.StringIO()

    with Screen(Console(file=terminal, force_terminal=True, width=80)) as screen:
        screen.on_progress("differences of 0.weight", 1, 1200)
        screen.say("ok      gradient  0.weight")

    assert capsys.readouterr().out == "ok      gradient  0.weight\n"
    assert "differences of 0.weight, 1 of 1,200" in terminal.getvalue()


def test_elsewhere_nothing_but_the_lines_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    other = io.StringIO()

    with Screen(Console(file=other)) as screen:
        screen.on_progress("differences of 0.weight", 1, 1200)
        screen.say("a line")

    assert (capsys.readouterr().out, other.getvalue()) == ("a line\n", "")
