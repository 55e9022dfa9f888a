"""`python -m tests.halves`: runs each test once, and ends as pytest would."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.deadline import DEADLINE, until
from tests.halves import exit_code

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """
[pytest]
asyncio_default_fixture_loop_scope = function
markers =
  full
  processes
"""
TESTS = """
import pathlib, time, pytest
def note(name):
    with pathlib.Path(__file__).with_name("ran").open("a") as file:
        file.write(name + "\\n")
@pytest.mark.processes
def test_with(): note("with")
def test_without(): note("without")
@pytest.mark.full
@pytest.mark.processes
def test_slow(): note("slow")
def test_wrong(): note("wrong"); assert 1 + 1 == 3
"""
COMPILED = """
import sys, pytest
@pytest.mark.processes
def test_with(): assert not sys.dont_write_bytecode
def test_without(): assert not sys.dont_write_bytecode
"""
WAITING = """
import pathlib, time, pytest
def wait(name):
    pathlib.Path(__file__).with_name(name).touch()
    time.sleep(600)
@pytest.mark.processes
def test_with(): wait("with")
def test_without(): wait("without")
"""


def halves(folder: Path, tests: str, *options: str) -> subprocess.Popen[str]:
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "test_it.py").write_text(tests)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.halves", "-c", str(folder / "pytest.ini"),
         "-p", "no:cacheprovider", str(folder / "test_it.py"), *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_each_test_runs_once_and_a_failure_of_either_half_is_shown(tmp_path: Path) -> None:
    process = halves(tmp_path, TESTS)

    output, _ = process.communicate(timeout=DEADLINE)

    assert sorted((tmp_path / "ran").read_text().split()) == ["with", "without", "wrong"]
    assert "1 passed, 3 deselected" in output
    assert "FAILED" in output
    assert output.index("1 passed, 3 deselected") < output.index("::test_wrong")
    assert process.returncode == 1


def test_both_halves_write_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    process = halves(tmp_path, COMPILED)
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 0


def test_options_may_select_tests_of_one_half(tmp_path: Path) -> None:
    process = halves(tmp_path, TESTS, "-k", "without")

    process.communicate(timeout=DEADLINE)

    assert (tmp_path / "ran").read_text() == "without\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((5, 5), 5), ((0, 5), 0), ((5, 2), 2), ((-9, 0), 137)]
)
def test_the_exit_code_is_that_of_all_tests(codes: tuple[int, int], expected: int) -> None:
    assert exit_code(codes) == expected


def test_a_signal_ends_both_halves(tmp_path: Path) -> None:
    process = halves(tmp_path, WAITING)
    until(lambda: all((tmp_path / name).exists() for name in ("with", "without")))
    both = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=DEADLINE)
    assert process.returncode
    assert len(both) >= 2
    assert not any(each.is_running() for each in both)
