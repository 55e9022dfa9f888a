"""`dbp params`, against a real service."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.cli.params.command import _bytes_bar
from tests.cli.setups import output, run, until, write_spec

SHAPES = {"0.weight": [16, 64], "0.bias": [16], "2.weight": [10, 16], "2.bias": [10]}


def test_all_tensors_with_their_norms(service: str, ended: str, weights: Path) -> None:
    content = json.loads(output("params", ended, "--output", "json", service=service))
    text = output("params", ended, service=service)

    tensors = load_file(weights)
    assert content["job"] == ended
    assert content["final"]
    assert content["step"] == 300
    assert {row["name"]: row["shape"] for row in content["tensors"]} == SHAPES
    for row in content["tensors"]:
        norm = float(np.linalg.norm(tensors[row["name"]].astype(np.float64)))
        assert row["norm"] == pytest.approx(norm, rel=1e-12)
        assert row["name"] in text
    assert f"{ended}: version {content['version']}, step 300 (final)" in text


def test_the_file_is_the_version(service: str, ended: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"

    told = output("params", ended, "-o", str(path), "--output", "json", service=service)

    assert json.loads(told)["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_only_tensors_that_match(service: str, ended: str, tmp_path: Path) -> None:
    path = tmp_path / "biases.safetensors"

    told = output(
        "params", ended, "--tensor", "*.bias", "-o", str(path), "--output", "json",
        service=service,
    )  # fmt: skip

    assert [row["name"] for row in json.loads(told)["tensors"]] == ["0.bias", "2.bias"]
    assert set(load_file(path)) == {"0.bias", "2.bias"}
    nothing = run("params", ended, "--tensor", "9.*", service=service)
    assert nothing.returncode == 4
    assert "9.*" in nothing.stderr


@pytest.mark.parametrize(
    ("mode", "terminal", "size", "drawn"),
    [
        ("text", True, _bytes_bar.LARGE, True),
        ("text", True, _bytes_bar.LARGE - 1, False),
        ("text", False, _bytes_bar.LARGE, False),
        ("json", True, _bytes_bar.LARGE, False),
    ],
)
def test_a_bar_is_drawn_for_people_at_a_terminal_who_would_wait(
    mode: str,
    terminal: bool,
    size: int,
    drawn: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)

    with _bytes_bar(mode) as on_bytes:
        on_bytes(size // 2, size)

    told = capsys.readouterr()
    assert (told.out, "MB" in told.err) == ("", drawn)
    assert drawn or not told.err


def test_a_version_that_never_was_is_exit_code_4(service: str, ended: str) -> None:
    done = run("params", ended, "--version", "9999", service=service)

    assert done.returncode == 4
    assert "9999" in done.stderr


def test_a_file_that_cannot_be_written_is_bad_input(
    service: str, ended: str, tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "weights.safetensors"

    done = run("params", ended, "-o", str(path), service=service)

    assert done.returncode == 2
    assert f"{path}: cannot be written" in done.stderr


def test_the_parameters_of_a_running_job(service: str, endless: Path, tmp_path: Path) -> None:
    job = output("submit", str(endless), service=service).strip()

    first = json.loads(
        output("params", job, "--wait", "30", "--output", "json", service=service)
    )
    until(
        lambda: (
            json.loads(output("params", job, "--output", "json", service=service))["step"]
            > first["step"]
        )
    )

    assert not first["final"]
    output("cancel", job, "--force", service=service)
    run("watch", job, service=service)


def test_a_job_that_has_published_nothing_is_exit_code_4(
    service: str, endless: Path, tmp_path: Path
) -> None:
    first = output("submit", str(endless), "-n", "2", service=service).strip()
    waiting = output(
        "submit", str(write_spec(tmp_path / "b.toml")), "-n", "2", service=service
    ).strip()

    done = run("params", waiting, service=service)

    assert done.returncode == 4
    assert "wait" in done.stderr
    for job in (waiting, first):
        output("cancel", job, "--force", service=service)
        run("watch", job, service=service)
