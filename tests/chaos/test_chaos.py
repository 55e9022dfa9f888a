"""A short chaos run keeps every promise; ``make chaos`` runs longer ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_a_short_chaos_run_keeps_every_promise() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seed", "5", "--cycles", "6"]
    command += ["--end-seconds", "240"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "jobs in" in run.stdout
    assert "seed 5: kept" in run.stdout
