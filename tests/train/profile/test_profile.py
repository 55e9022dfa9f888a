"""Profiles of real runs: traces, nested spans, sums near the wall time; nothing when off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidInput
from dbp.train.profile.target import check_target
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

SPEC = """
name = "profiled"
[data]
train = { kind = "digits" }
validation = { fraction = 0.1 }
[model]
layers = [
  { kind = "dense", units = 32, activation = "relu" },
  { kind = "batch_norm" },
  { kind = "dense", units = 10 },
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "sgd"
learning_rate = 0.1
[train]
batch_size = 64
steps = 12
[checkpoint]
every_steps = 5
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(SPEC)
    return path


def train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dbp", "train", *arguments],
        cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def events_of(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text())
    return [event for event in content["traceEvents"] if event["ph"] == "X"]


def check_nesting(events: Sequence[dict[str, Any]]) -> None:
    """Fail unless each span lies within the one that it begins in."""
    open_spans: list[tuple[float, str]] = []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        start, end = event["ts"], event["ts"] + event["dur"]
        while open_spans and open_spans[-1][0] <= start + 0.01:
            open_spans.pop()
        if open_spans:
            assert end <= open_spans[-1][0] + 0.01, (event, open_spans[-1])
        open_spans.append((end, event["name"]))


def test_two_ranks_have_a_trace_each_and_a_summary(spec: Path, tmp_path: Path) -> None:
    done = train(str(spec), "-n", "2", "--run", "run", "--profile", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run-profile"
    assert sorted(path.name for path in folder.iterdir()) == [
        "rank-0.json", "rank-1.json", "summary.json",
    ]  # fmt: skip
    assert "ms a step" in done.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["first_step"], summary["last_step"]) == (2, 12)
    for rank in (0, 1):
        events = events_of(folder / f"rank-{rank}.json")
        check_nesting(events)
        names = {event["name"] for event in events}
        assert {"digest", "input", "compute", "exchange", "update", "between steps"} <= names
        assert {"0 Dense forward", "2 BatchNorm backward", "barrier", "evaluate"} <= names
        steps = [event for event in events if event["cat"] == "step"]
        assert [event["name"] for event in steps] == [f"step {n}" for n in range(1, 13)]
        exchanges = [event for event in events if event["name"] == "exchange"]
        assert len(exchanges) == 24  # sums of gradients, then the parameters of all ranks
        wall = steps[-1]["ts"] + steps[-1]["dur"] - steps[0]["ts"]
        phases = sum(event["dur"] for event in events if event["cat"] == "phase")
        assert phases == pytest.approx(wall, rel=1e-3)
        activities = summary["ranks"][rank]["activities"]
        assert sum(activities.values()) == pytest.approx(summary["ranks"][rank]["step"])
        assert min(activities.values()) > -1e-9  # no span counts twice
    assert "checkpoint" in {event["name"] for event in events_of(folder / "rank-0.json")}


def test_one_file_holds_the_traces_of_all_ranks_and_the_same_bits_are_trained(
    spec: Path, tmp_path: Path
) -> None:
    # Without batch normalization the lanes of a rank are computed together.
    spec.write_text(SPEC.replace('  { kind = "batch_norm" },\n', ""))
    done = train(str(spec), "--run", "a", "--profile", "trace.json", "--quiet", cwd=tmp_path)
    plain = train(str(spec), "--run", "b", "--quiet", cwd=tmp_path)

    assert (done.returncode, plain.returncode) == (0, 0), done.stderr
    events = events_of(tmp_path / "trace.json")
    check_nesting(events)
    (rank,) = json.loads((tmp_path / "trace.json").read_text())["otherData"]["ranks"]
    assert min(rank["activities"].values()) > -1e-9
    assert {"0 Dense forward", "0 Dense backward"} <= {event["name"] for event in events}
    assert "ms a step" not in done.stderr
    a, b = ((tmp_path / run / "parameters.safetensors").read_bytes() for run in "ab")
    assert a == b


def test_a_run_without_the_option_loads_no_part_of_the_profiler(
    spec: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dbp", "train", str(spec), "--run", "run"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 0
    assert "dbp.train.step\n" in done.stderr
    assert "dbp.train.profile" not in done.stderr
    assert "dbp.parallel.traced" not in done.stderr


def test_a_spec_after_the_option_is_not_taken_for_its_path(spec: Path, tmp_path: Path) -> None:
    done = train("--profile", "job.toml", cwd=tmp_path)

    assert done.returncode == 2
    assert "write: dbp train job.toml --profile" in done.stderr
    assert spec.read_text() == SPEC


def test_only_traces_are_replaced(tmp_path: Path) -> None:
    data, trace = tmp_path / "data.json", tmp_path / "trace.json"
    data.write_text('{"mine": 1}')
    trace.write_text('{"traceEvents": []}')
    plain = tmp_path / "notes.txt"
    plain.write_text("mine")

    check_target(trace)
    check_target(tmp_path)
    check_target(tmp_path / "new")
    for wrong in (data, plain, tmp_path / "no" / "trace.json"):
        with pytest.raises(InvalidInput, match=f"profile {wrong}: "):
            check_target(wrong)
