"""Each fault in ``mutants.py`` makes its tests fail: they would notice it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.durability.mutant import Mutant
from tests.durability.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
FAILED = 1  # pytest's exit code for tests that ran and failed
NAMES = [mutant.name for mutant in MUTANTS]
KILLERS = list(dict.fromkeys(test for mutant in MUTANTS for test in mutant.killers))


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_changes_one_place_of_valid_code(mutant: Mutant) -> None:
    sound = (ROOT / mutant.file).read_text()

    assert sound.count(mutant.old) == 1
    assert mutant.new != mutant.old
    compile(sound.replace(mutant.old, mutant.new), mutant.file, "exec")


def copied(folder: Path) -> Path:
    """Copy the files that the tests need, without compiled ones."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("dbp", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_tests(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests on the copy until one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("copy"))


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_is_noticed(copy: Path, mutant: Mutant) -> None:
    path = copy / mutant.file
    sound = path.read_text()
    path.write_text(sound.replace(mutant.old, mutant.new))
    try:
        done = run_tests(copy, mutant.killers)
    finally:
        path.write_text(sound)

    assert done.returncode == FAILED, done.stdout
    assert "1 failed" in done.stdout, done.stdout  # an assertion, not an error of a fixture


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("killer", KILLERS)
def test_without_a_mutant_the_copy_passes(copy: Path, killer: str) -> None:
    done = run_tests(copy, (killer,))

    assert done.returncode == 0, done.stdout
