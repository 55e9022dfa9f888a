"""Runs whose output has no reader: training continues and ends as with a reader."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.setups import DBP as MODULE
from tests.cli.setups import Server, output
from tests.system.test_train import DBP, MPIRUN, SPEC, environment, result

FULL = "standard output cannot be written: No space left on device"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SPEC.format(steps=100, train=""))
    return path


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """The exit code is that of the first command of a pipe."""
    return subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, env=environment(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "redirection"),
    [
        (1, "| head -n 1"),
        (1, "2>&1 | head -n 1"),
        (1, ">/dev/full"),
        (1, "2>/dev/full"),
        (1, ">&- 2>&-"),
        (1, "--output json >/dev/full"),
        (2, "| head -n 1"),
        (2, ">/dev/full"),
        (2, ">&- 2>&-"),
    ],
)
def test_a_run_ends_well_whatever_becomes_of_its_output(
    tmp_path: Path, spec: Path, ranks: int, redirection: str
) -> None:
    folder = tmp_path / "run"

    done = shell(f"{DBP} train {spec} --run {folder} -n {ranks} {redirection}")

    assert done.returncode == 0, done.stderr
    assert result(folder)["status"] == "succeeded"
    assert (result(folder)["step"], result(folder)["reason"]) == (100, "steps")
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stdout + done.stderr
    assert done.stderr.count(FULL) == (">/dev/full" in redirection and "2>" not in redirection)


def test_a_bare_mpirun_with_a_full_output_trains_to_the_end(tmp_path: Path, spec: Path) -> None:
    folder = tmp_path / "run"
    launcher = " ".join(MPIRUN)

    done = shell(f"{launcher} -n 2 {DBP} train {spec} --run {folder} >/dev/full 2>/dev/full")

    assert done.returncode == 0
    assert result(folder)["status"] == "succeeded"


def test_the_exit_code_is_that_of_the_training(tmp_path: Path, spec: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(spec.read_text().replace('kind = "adam"', 'kind = "adm"'))
    diverging = tmp_path / "diverging.toml"
    text = spec.read_text().replace('kind = "adam"', 'kind = "sgd"')
    diverging.write_text(text.replace("learning_rate = 1e-3", "learning_rate = 1e30"))

    for file, code in ((broken, 2), (diverging, 1)):
        for redirection in ("2>&1 | head -n 0", ">/dev/full 2>/dev/full"):
            command = f"{DBP} train {file} --run {tmp_path / file.stem}"
            done = shell(f"{command} --overwrite {redirection}")
            assert done.returncode == code, (file, redirection)


def test_a_registered_run_is_published_though_its_output_is_lost(
    tmp_path: Path, spec: Path
) -> None:
    command = " ".join(MODULE)
    with Server(tmp_path / "state") as server:
        done = shell(
            f"{command} train {spec} --run {tmp_path / 'run'} --service {server.address} "
            "2>&1 | head -n 1"
        )
        shown = output("jobs", "--state", "succeeded", service=server.address)

    assert done.returncode == 0
    assert "small" in shown
    assert "100/100" in shown
