"""Run folders as users meet them: used before, in use now, named by dbp."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.deadline import DEADLINE
from tests.system.test_train import (
    DBP,
    MPIRUN,
    SPEC,
    result,
    run,
    start,
    wait_for_training,
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SPEC.format(steps=40, train=""))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("command", [[DBP], [*MPIRUN, "-n", "2", DBP]], ids=["one", "mpirun"])
def test_a_finished_run_is_replaced_only_with_overwrite(
    tmp_path: Path, spec: Path, command: list[str]
) -> None:
    folder = str(tmp_path / "run")
    other = tmp_path / "other.toml"
    other.write_text(spec.read_text().replace('name = "small"', 'name = "other"'))
    assert run(DBP, "train", str(spec), "--run", folder, "-q").returncode == 0
    before = contents(Path(folder))

    refused = run(*command, "train", str(other), "--run", folder)

    assert refused.returncode == 2
    assert refused.stderr.count("holds a run that has ended; choose another folder") == 1
    assert f"dbp train --resume {folder}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert contents(Path(folder)) == before

    allowed = run(*command, "train", str(other), "--run", folder, "--overwrite", "-q")

    assert allowed.returncode == 0, allowed.stderr
    assert json.loads((tmp_path / "run" / "spec.json").read_text())["name"] == "other"
    assert result(tmp_path / "run")["step"] == 40


def test_an_overwriting_run_that_cannot_begin_leaves_the_old_run_whole(
    tmp_path: Path, spec: Path
) -> None:
    folder = tmp_path / "run"
    kept = SPEC.format(steps=40, train="[checkpoint]\nevery_steps = 10")
    spec.write_text(kept)
    assert run(DBP, "train", str(spec), "--run", str(folder), "-q").returncode == 0
    before = contents(folder)
    bad = tmp_path / "bad.toml"
    rows = "".join(f"{i},{i % 11}\n" for i in range(100))
    (tmp_path / "rows.csv").write_text(rows)
    text = spec.read_text().replace('test = { kind = "digits", part = "test" }', "")
    bad.write_text(
        text.replace('{ kind = "digits" }', '{ kind = "csv", path = "rows.csv" }', 1)
    )

    failed = run(DBP, "train", str(bad), "--run", str(folder), "--overwrite")
    absent = run(
        DBP, "train", str(spec), "--run", str(folder), "--overwrite", "--service", "127.0.0.1:1"
    )

    assert failed.returncode == 2, failed.stderr
    assert "class 10" in failed.stderr
    assert absent.returncode == 3
    assert any(name.startswith("checkpoints/") for name in before)
    assert contents(folder) == before


def test_a_service_that_is_not_there_ends_both_ranks_with_exit_code_3(
    tmp_path: Path, spec: Path
) -> None:
    folder = str(tmp_path / "run")
    command = [*MPIRUN, "-n", "2", DBP, "train", str(spec), "--run", folder]

    done = run(*command, "--service", "127.0.0.1:1")

    assert done.returncode == 3, done.stderr
    assert done.stderr.count("the service cannot be reached") == 1
    assert "127.0.0.1:1" in done.stderr
    assert "name another with --service HOST:PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_live_run_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    spec = tmp_path / "endless.toml"
    spec.write_text(SPEC.format(steps=10**9, train=""))
    folder = tmp_path / "run"
    live = start(DBP, "train", str(spec), "--run", str(folder))
    try:
        wait_for_training(folder)
        for asked in (["--run", str(folder)], ["--run", str(folder), "--overwrite"]):
            refused = run(DBP, "train", str(spec), *asked)
            assert refused.returncode == 2
            assert f"still active here (process {live.pid} on " in refused.stderr
        resumed = run(DBP, "train", "--resume", str(folder))
        assert resumed.returncode == 2
        assert "still active here" in resumed.stderr
        assert psutil.Process(live.pid).is_running()
    finally:
        live.send_signal(signal.SIGINT)
        live.communicate(timeout=DEADLINE)

    assert live.returncode == 75
    assert result(folder)["status"] == "stopped"


def test_of_two_runs_started_in_one_folder_one_trains(tmp_path: Path) -> None:
    spec = tmp_path / "endless.toml"
    spec.write_text(SPEC.format(steps=10**9, train=""))
    folder = tmp_path / "run"
    both = [start(DBP, "train", str(spec), "--run", str(folder)) for _ in range(2)]
    try:
        wait_for_training(folder)
        deadline = time.monotonic() + DEADLINE
        while all(process.poll() is None for process in both):
            assert time.monotonic() < deadline, "both train"
            time.sleep(0.02)
    finally:
        for process in both:
            process.send_signal(signal.SIGINT)
        outputs = [process.communicate(timeout=DEADLINE) for process in both]

    assert sorted(process.returncode for process in both) == [2, 75], outputs


@pytest.mark.parametrize("ranks", [1, 2])
def test_runs_started_in_the_same_second_get_a_folder_each(
    tmp_path: Path, spec: Path, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    count = 4 if ranks == 1 else 2
    command = [DBP] if ranks == 1 else [*MPIRUN, "-n", "2", DBP]
    runs = [start(*command, "train", str(spec), "--steps", "5", "-q") for _ in range(count)]
    ended = [process.communicate(timeout=DEADLINE) for process in runs]

    assert [process.returncode for process in runs] == [0] * count, ended
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == count
    assert all(result(folder)["status"] == "succeeded" for folder in folders)
