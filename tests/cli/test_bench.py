"""`dbp bench`: a quick measurement, its JSON, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dbp.bench.workload import WORKLOADS
from dbp.cli import bench
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

DBP = [sys.executable, "-m", "dbp", "bench"]


def test_a_quick_measurement_is_printed_as_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DBP, "--quick", "-n", "1", "--output", "json"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["cores"] == 1
    assert list(figures["workloads"]) == ["small"]
    columns = figures["workloads"]["small"]["columns"]
    assert list(columns) == ["exact", "fast", "products"]
    assert all(column["time"]["median"] > 0 for column in columns.values())
    assert done.stderr.splitlines()[0] == "round 1 of 1: small, exact ..."
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_programs_and_prints_what_was_measured(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [*DBP, "--workload", "small", "--no-peers", "-n", "1", "--rounds", "1000"],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream,
            text=True,
        )  # fmt: skip
    limit = time.monotonic() + DEADLINE
    while "fast" not in errors.read_text():
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < limit
        time.sleep(0.02)

    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=DEADLINE)[0]

    assert process.returncode == 130
    assert "interrupted: the figures are those" in errors.read_text()
    lines = [line.split() for line in output.splitlines()]
    assert ["exact"] in [words[:1] for words in lines]
    assert "fast: not measured" in output


def test_the_choices_are_the_workloads() -> None:
    assert list(bench.WORKLOADS) == list(WORKLOADS)


def test_more_processes_than_samples_are_refused_at_once() -> None:
    done = subprocess.run(
        [*DBP, "--quick", "-n", "129"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 2
    assert "at most -n 128" in done.stderr


def test_it_is_refused_under_mpirun() -> None:
    done = subprocess.run(
        [*DBP, "--quick"], env={**os.environ, "PMI_SIZE": "2", "PMI_RANK": "0"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 2
    assert "start it without mpirun" in done.stderr
