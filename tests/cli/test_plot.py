"""`dbp plot`: in a terminal, in a pipe, as a picture, and what it refuses."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import dbp
from dbp.cli.main import dbp as command
from dbp.errors import InvalidInput, MissingDependency
from tests.cli.setups import DBP, environment, output, run
from tests.deadline import DEADLINE
from tests.train.fit_setups import samples, spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs, ``one`` and ``two``, of six epochs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("one", "two")):
        document = spec(epochs=6) | {"seed": seed}
        dbp.fit(document, *samples(), validation=samples(60, 2), run=folder / name)
    return folder


def plotted(*arguments: object) -> Result:
    found = CliRunner().invoke(command, ["plot", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def on_terminal(
    *arguments: object,
    columns: int = 100,
    lines: int = 30,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Return what a command writes to a terminal of this size."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    inherited = environment() | {"TERM": "xterm-256color", **(variables or {})}
    for name in {"COLUMNS", "LINES", "NO_COLOR"} - set(variables or ()):
        inherited.pop(name, None)
    process = subprocess.Popen(
        [*DBP, "plot", *map(str, arguments)], env=inherited, stdin=subprocess.DEVNULL,
        stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    written = b""
    try:
        while part := os.read(controller, 65_536):
            written += part
    except OSError:  # Linux: the other side is closed
        pass
    finally:
        os.close(controller)
        assert process.wait(DEADLINE) == 0, written
    return written.decode()


def unstyled(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_pipe_gets_plain_text_of_80_columns_with_both_losses(folder: Path) -> None:
    text = output("plot", str(folder / "one"))

    assert "\x1b" not in text
    lines = text.splitlines()
    assert 78 <= max(map(len, lines)) <= 80
    assert [line.split()[1] for line in lines[-2:]] == ["training_loss", "validation_loss"]
    assert any(line.strip() == "epoch" for line in lines)


@pytest.mark.parametrize(("columns", "lines"), [(100, 30), (60, 20)])
def test_a_terminal_gets_colors_and_a_plot_of_its_size(
    folder: Path, columns: int, lines: int
) -> None:
    text = on_terminal(folder / "one", columns=columns, lines=lines)

    assert "\x1b[38;5;6m" in text
    found = unstyled(text).splitlines()
    assert columns - 2 <= max(map(len, found)) <= columns
    assert len(found) < lines


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colors_gets_plain_text(
    folder: Path, variables: Mapping[str, str]
) -> None:
    text = on_terminal(folder / "one", variables=variables)

    assert "\x1b" not in text
    assert "*  training_loss" in text


def test_runs_share_a_plot_and_a_run_named_twice_is_drawn_once(folder: Path) -> None:
    one, two = folder / "one", folder / "two"

    lines = plotted(one, two, one, "--metric", "validation_accuracy").stdout.splitlines()

    assert [line[0] for line in lines[-3:]] == [" ", "*", "o"]
    assert "validation_accuracy" in plotted(one, "--metric", "accuracy").stdout


def test_json_holds_the_points(folder: Path, tmp_path: Path) -> None:
    one = folder / "one"
    arguments = ["plot", str(one), "--metric", "validation_loss", "--x", "step"]
    found = json.loads(output(*arguments, "--output", "json"))

    lines = [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
    rows = [line for line in lines if "status" not in line]
    assert len(rows) == 6
    assert found == {
        "x": "step",
        "curves": [
            {
                "run": str(one), "metric": "validation_loss",
                "x": [row["step"] for row in rows],
                "y": [row["validation_loss"] for row in rows],
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_is_written(folder: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"curve.{suffix}"

    text = output("plot", str(folder / "one"), "--log", "-o", str(file))

    assert text == f"written to {file}\n"
    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])


def test_a_picture_needs_no_plotext_and_a_terminal_no_matplotlib(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)
    plotted(folder / "one", "-o", tmp_path / "curve.png")
    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[plot\]'"):
        plotted(folder / "one")
    monkeypatch.undo()

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    plotted(folder / "one")
    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[plot\]'"):
        plotted(folder / "one", "-o", tmp_path / "curve.png")


def test_a_mistake_is_refused_with_what_would_be_right(folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([folder / "on"], "on: no such file or folder, did you mean 'one'"),
        ([folder], "contains no run .*; it holds folders of runs: one, two"),
        ([folder / "one" / "metrics.jsonl"], "is a file; name the folder of a run"),
        (
            [folder / "one", "--metric", "acuracy"],
            "no metric 'acuracy', did you mean 'accuracy'",
        ),
        ([folder / "one", "-o", tmp_path / "a.pdf"], r"format: \.png, \.svg; got '\.pdf'"),
        ([folder / "one", "-o", tmp_path / "none" / "a.png"], "no such folder; make it with"),
        ([folder / "one", "-o", folder / "one" / "spec.json"], r"the format: \.png, \.svg"),
    ):
        with pytest.raises(InvalidInput, match=message):
            plotted(*arguments)
    assert run("plot", str(folder)).returncode == 2
    assert run("plot").returncode == 2


def test_a_job_is_plotted_from_the_history_of_the_service(service: str, ended: str) -> None:
    found = json.loads(output("plot", ended, "--output", "json", service=service))

    names = {curve["metric"]: curve for curve in found["curves"]}
    assert names.keys() == {"training_loss", "validation_loss"}
    losses = names["validation_loss"]
    assert losses["run"] == ended
    assert losses["x"] == sorted(losses["x"])
    assert losses["y"][-1] < losses["y"][0]


def test_an_unknown_job_is_refused(service: str) -> None:
    done = run("plot", "nothing-here", service=service)

    assert done.returncode == 4
    assert "nothing-here: no file or folder here, and no job of that name" in done.stderr
