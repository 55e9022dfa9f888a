"""`dbp metrics`, against a real service and jobs that two processes train."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dbp.cli.metrics.rows import COLUMNS
from tests.cli.setups import Server, output, run, until, write_spec
from tests.cli.test_completion import completed

STEPS = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service") / "state") as server:
        yield server


@pytest.fixture(scope="module")
def job(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a job of two processes that has succeeded."""
    spec = write_spec(tmp_path_factory.mktemp("spec") / "small.toml", steps=STEPS)
    job = output("submit", str(spec), "-n", "2", service=server.address).strip()
    output("watch", job, service=server.address)
    return job


def epochs_of(server: Server, job: str) -> dict[int, dict[str, Any]]:
    """What the run itself wrote at the end of each epoch, by its number."""
    lines = (server.state / "jobs" / job / "run" / "metrics.jsonl").read_text().splitlines()
    epochs = [line for line in map(json.loads, lines) if "training_loss" in line]
    return {line["epoch"]: line for line in epochs}


def points_of(server: Server, *arguments: str) -> list[dict[str, Any]]:
    text = output("metrics", *arguments, "--output", "jsonl", service=server.address)
    return [json.loads(line) for line in text.splitlines()]


def covered(points: list[dict[str, Any]]) -> list[int]:
    return [step for p in points for step in range(p["first_step"], p["step"] + 1)]


def test_the_losses_cover_every_step_and_their_mean_is_that_of_the_run(
    server: Server, job: str
) -> None:
    points = points_of(server, job, "--name", "loss", "--points", "10000")

    assert covered(points) == list(range(1, STEPS + 1))
    assert all(p["count"] == p["step"] - p["first_step"] + 1 for p in points)
    assert not any(p["retaken"] for p in points)
    first = epochs_of(server, job)[1]
    inside = [p for p in points if p["step"] <= first["step"]]
    assert inside[-1]["step"] == first["step"]  # an epoch's end is reported
    mean = sum(p["mean"] * p["count"] for p in inside) / first["step"]
    # The last mini-batch of an epoch has fewer samples, and so less weight in its mean.
    assert mean == pytest.approx(first["training_loss"], rel=0.02)


def test_metrics_of_epochs_are_those_that_the_run_wrote(server: Server, job: str) -> None:
    content = json.loads(output("metrics", job, "--output", "json", service=server.address))

    found = {series["metric"]: series for series in content}
    epochs = epochs_of(server, job)
    names = [name for name, series in found.items() if series["per_epoch"]]
    assert {"training_loss", "validation_loss", "validation_accuracy"} <= set(names)
    for name in names:
        kept = dict(zip(found[name]["epoch"], found[name]["last"], strict=True))
        assert kept == {number: line[name] for number, line in epochs.items()}, name
        assert found[name]["step"] == [line["step"] for line in epochs.values()]
    assert set(found["learning_rate"]["mean"]) == {0.01}


def test_a_table_has_a_screen_of_rows_with_the_extremes(server: Server, job: str) -> None:
    text = output("metrics", job, service=server.address)

    steps, epochs = text.rstrip("\n").split("\n\n")
    heading, *rows = steps.splitlines()
    assert heading.split() == [
        "STEPS", "EPOCH", "TIME", "(UTC)", "loss", "least", "greatest", "learning_rate",
        "samples_per_second",
    ]  # fmt: skip
    assert 5 <= len(rows) <= 20
    assert rows[0].startswith("1-")
    assert rows[-1].split()[0].endswith(f"{STEPS}")
    for row in rows:
        mean, least, greatest = map(float, row.split()[4:7])
        assert least <= mean <= greatest
    assert epochs.splitlines()[0].split()[:2] == ["EPOCH", "STEP"]
    assert "validation_accuracy" in epochs
    assert len(epochs.splitlines()) == 1 + len(epochs_of(server, job))


def test_csv_json_lines_and_parquet_have_the_same_rows(
    server: Server, job: str, tmp_path: Path
) -> None:
    asked = ("metrics", job, "--points", "50", "--output")
    for form in ("csv", "jsonl", "parquet"):
        file = tmp_path / f"losses.{form}"
        written = output(*asked, form, "-o", str(file), service=server.address)
        assert written == f"written to {file} ({file.stat().st_size:,} bytes)\n"

    as_csv, as_lines = ((tmp_path / f"losses.{f}").read_text() for f in ("csv", "jsonl"))
    assert output(*asked, "csv", service=server.address) == as_csv
    assert output(*asked, "jsonl", service=server.address) == as_lines
    rows = [json.loads(line) for line in as_lines.splitlines()]
    assert {row["metric"] for row in rows} >= {"loss", "validation_loss"}
    assert {tuple(row) for row in rows} == {COLUMNS}
    table = pq.read_table(tmp_path / "losses.parquet")
    assert table.to_pylist() == rows
    types = {name: str(table.schema.field(name).type) for name in COLUMNS}
    assert types["job"] == types["metric"] == "string"
    assert (types["step"], types["mean"], types["retaken"]) == ("int64", "double", "bool")
    read = list(csv.DictReader(as_csv.splitlines()))
    assert [float(row["mean"]) for row in read] == [row["mean"] for row in rows]
    assert {row["retaken"] for row in read} == {"False"}


def test_steps_times_and_points_are_chosen(server: Server, job: str) -> None:
    def steps(*options: str) -> list[int]:
        return [p["step"] for p in points_of(server, job, "--name", "loss", *options)]

    every = steps()
    assert len(steps("--points", "3")) == 3
    assert steps("--steps", "100:") == [step for step in every if step >= 100]
    assert max(steps("--steps", ":100")) < STEPS
    assert steps("--since", "1h") == steps("--since", "2020-01-31T18:00") == every
    assert steps("--until", "1h") == steps("--until", "2020-01-31T18:00+05:00") == []


def test_several_jobs_each_have_their_table(server: Server, job: str, tmp_path: Path) -> None:
    spec = write_spec(tmp_path / "other.toml", name="other", steps=20)
    other = output("submit", str(spec), service=server.address).strip()
    output("watch", other, service=server.address)

    text = output("metrics", other, job, "--name", "loss", service=server.address)

    first, second = text.split("\n\n")
    assert first.startswith(f"{other}:\nSTEPS")
    assert second.startswith(f"{job}:\nSTEPS")
    none = output("metrics", job, "--steps", "9999:", service=server.address)
    assert none == f"{job}: no points in this range\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--name", "los"], "no metric 'los', did you mean 'loss'? metrics: loss, "),
        (["--output", "parquet"], "a Parquet file cannot be shown; add -o FILE"),
        (["--steps", "5"], "'5': expected FIRST:LAST, such as 100:200, 100: or :200"),
        (["--steps", "9:5"], "'9:5': the last step comes before the first"),
        (["--since", "noon"], "'noon': expected a time before now, such as 10min or 2h"),
        (["--points", "10001"], "10001 is not in the range 1<=x<=10000"),
        (["-o", "/nowhere/x.csv"], "/nowhere/x.csv: cannot be written: no such folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_wrong_options_are_refused_with_what_is_allowed(
    server: Server, job: str, options: list[str], text: str
) -> None:
    done = run("metrics", job, *options, service=server.address)

    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_an_unknown_job_is_refused(server: Server) -> None:
    done = run("metrics", "nothing-x", service=server.address)

    assert done.returncode == 4
    assert "nothing-x" in done.stderr


def test_names_of_metrics_are_completed(server: Server, job: str) -> None:
    found = completed("metrics", job, "--name", "validation_", service=server.address)

    assert found == ["plain,validation_accuracy", "plain,validation_loss"]


def has_trained(server: Server, job: str) -> bool:
    """Whether the run of a job has written the end of an epoch."""
    return (server.state / "jobs" / job / "run" / "metrics.jsonl").exists() and bool(
        epochs_of(server, job)
    )


def test_steps_that_a_later_attempt_took_again_are_marked(
    server: Server, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "again.toml", name="again", steps=2_000)
    with spec.open("a") as file:
        # Without a checkpoint the next attempt begins with step 1.
        file.write("[checkpoint]\nevery_steps = 99999\n[retry]\nbackoff_seconds = 0.1\n")
    job = output("submit", str(spec), "-n", "2", service=server.address).strip()

    def step() -> int:
        shown = json.loads(output("show", job, "--output", "json", service=server.address))
        return shown["progress"]["step"] if shown["progress"] else 0

    until(lambda: has_trained(server, job))
    ranks = [p for p in server.processes() if p.cmdline()[1:3] == ["-m", "dbp.worker"]]
    for rank in ranks:
        rank.suspend()  # a busy service learns late which steps were taken
    until(lambda: step() > 0)
    ranks[0].kill()
    ranks[1].resume()
    done = run("watch", job, service=server.address)
    assert done.returncode == 0, done.stderr

    text = run("metrics", job, "--name", "loss", service=server.address)
    points = points_of(server, job, "--name", "loss", "--points", "10000")

    assert "note: * steps taken again, by a later attempt" in text.stderr
    assert any(row.split()[0].endswith("*") for row in text.stdout.splitlines())
    assert covered(points) == list(range(1, 2_001))
    again = [p["retaken"] for p in points]
    assert again == sorted(again, reverse=True)
    assert again[0]
    assert not again[-1]
