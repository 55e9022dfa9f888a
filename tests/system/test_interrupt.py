"""Signals to `dbp train -n 2`, under both MPI libraries, on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.system.terminal_run import (
    LIBRARIES,
    SPEC,
    Start,
    is_stopped_well,
    steps_of_checkpoints,
    wait_until,
)
from tests.system.test_train import DBP

# dbp that grants mpirun one second to end after its ranks.
HASTY = """
import sys
from dbp.cli.mpirun import watch

all_ranks = watch._all_ranks

def reported_ranks():
    ranks = all_ranks()
    if ranks:
        print("the watch knows the ranks", file=sys.stderr, flush=True)
    return ranks

watch.END_SECONDS = 1.0
watch._all_ranks = reported_ranks
from dbp.cli.main import main
main(sys.argv[1:])
"""

# dbp that waits for ranks of other hosts for no time at all.
IMPATIENT = """
import sys
import dbp.cli.mpirun.parent
dbp.cli.mpirun.parent.READY_SECONDS = 0.0
from dbp.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_ctrl_c_on_two_ranks_stops_after_the_step(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.type("\x03")

    assert run.end() == 75, run.output
    assert "SIGINT: stopping after the current step" in run.output
    is_stopped_well(run)
    step = steps_of_checkpoints(run.folder)[-1]
    resume = start.command(library, "train", "--resume", str(run.folder), "-n", "2")
    again = start.run(run.folder, library, resume)
    again.wait_for_epochs()
    again.type("\x03")
    assert again.end() == 75
    assert steps_of_checkpoints(run.folder)[-1] > step


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_parent_stops_after_the_step(
    start: Start, library: str, number: signal.Signals
) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.process.send_signal(number)

    assert run.end() == 75, run.output
    is_stopped_well(run)


def test_a_stop_before_the_ranks_are_ready_stops_after_the_first_step(start: Start) -> None:
    run = start("openmpi")
    wait_until(run.children, "mpirun has started")

    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75, run.output
    is_stopped_well(run)
    assert steps_of_checkpoints(run.folder) == [1]


def test_a_stop_waits_for_ranks_that_are_slow_to_start(start: Start) -> None:
    impatient = start.folder / "impatient.py"
    impatient.write_text(IMPATIENT)
    folder = start.folder / "run"
    words = ["train", str(start.spec), "-n", "2", "--run", str(folder)]
    run = start.run(folder, "openmpi", [sys.executable, str(impatient), *words])
    wait_until(run.ranks, "a rank has started")

    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75, run.output
    is_stopped_well(run)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_second_ctrl_c_ends_all_ranks_at_once(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()
    os.kill(run.ranks()[1].pid, signal.SIGSTOP)  # a step that never ends
    run.type("\x03")
    run.wait_for("SIGINT: stopping")

    run.type("\x03")

    assert run.end() == 130, run.output
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ranks_end_with_a_killed_parent(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.process.kill()

    assert run.end() == -signal.SIGKILL
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_run_that_was_killed_whole_leaves_nothing_after_the_next_one(
    start: Start, library: str
) -> None:
    run = start(library)
    run.wait_for_epochs()
    everything = run.marked()
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # one of those that start the others
            process.suspend()  # else some clean up when others are killed
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert run.end() == -signal.SIGKILL
    run.leaves_nothing()

    again = start(library, "--epochs", "1")

    assert again.end() == 0, again.output
    again.leaves_nothing()
    assert start.leftovers() == []


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("killed", ["parent", "mpirun", "rank"])
def test_a_killed_process_leaves_no_memory_after_the_next_run(
    start: Start, library: str, killed: str
) -> None:
    run = start(library)
    run.wait_for_epochs()
    victims = {"parent": run.process.kill, "mpirun": run.children()[0].kill}
    victims.get(killed, run.ranks()[1].kill)()
    run.end()
    run.leaves_nothing()

    if killed == "parent":
        assert start(library, "--epochs", "1").end() == 0

    assert start.leftovers() == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_ranks_end_with_a_killed_mpirun(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.children()[0].kill()

    assert run.end() == 137, run.output
    assert "error: mpirun was ended by signal 9 (Killed)" in run.output
    run.leaves_nothing()


def test_an_mpirun_that_does_not_end_after_its_ranks_is_killed(start: Start) -> None:
    hasty = start.folder / "hasty.py"
    hasty.write_text(HASTY)
    folder = start.folder / "run"
    words = ["train", str(start.spec), "-n", "2", "--run", str(folder)]
    run = start.run(folder, "openmpi", [sys.executable, str(hasty), *words])
    run.wait_for_epochs()
    run.wait_for("the watch knows the ranks")
    run.children()[0].suspend()  # as if it waited for a lock

    for rank in run.ranks():
        rank.kill()

    assert run.end() == 1, run.output
    assert "error: all ranks have ended, but mpirun did not" in run.output
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_killed_rank_ends_the_run_with_its_signal(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.ranks()[1].kill()

    assert run.end() == 137, run.output
    assert "signal 9" in run.output  # mpirun's notice, which says something new
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ctrl_z_and_fg_in_a_shell_stop_and_continue_the_ranks(
    start: Start, library: str
) -> None:
    folder = start.folder / "run"
    words = ("train", str(start.spec), "-n", "2", "--run", str(folder))
    command = " ".join(f"'{word}'" for word in start.command(library, *words))
    run = start.run(folder, library, ["/bin/bash", "--norc", "-i"])
    run.type(f"{command}\r")
    run.wait_for_epochs()

    run.type("\x1a")
    run.wait_for("Stopped")
    ranks = run.ranks()
    wait_until(lambda: {p.status() for p in ranks} == {psutil.STATUS_STOPPED}, "ranks stopped")
    assert len(ranks) == 2
    run.type("fg\r")
    run.wait_for_epochs(2)
    run.type("\x03")
    run.wait_for("continue with:")
    run.type("echo code=$?\r")
    run.wait_for("code=75")
    run.type("exit\r")

    assert run.end() == 0
    run.leaves_nothing()


@pytest.mark.parametrize("library", LIBRARIES)
def test_sigtstp_without_a_shell_that_could_continue_stops_nothing(
    start: Start, library: str
) -> None:
    run = start(library)
    run.wait_for_epochs()

    for _ in range(5):
        run.process.send_signal(signal.SIGTSTP)
        run.wait_for_epochs()
    run.process.terminate()

    assert run.end() == 75


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_progress_bar_follows_the_terminals_width(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()
    wait_until(lambda: max(widths(run.output)) > 60, "a wide bar")

    run.resize(50)

    def narrow() -> bool:
        seen = len(run.output)
        wait_until(lambda: run.output.count("\r", seen) >= 4, "some drawings")
        return 0 < max(widths(run.output[seen:].partition("\r")[2])) <= 50

    wait_until(narrow, "a narrow bar")
    run.process.terminate()
    assert run.end() == 75


def widths(output: str) -> list[int]:
    """Of the complete lines, without colors."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    return [len(line) for line in re.split(r"[\r\n]", text)[:-1]] or [0]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("stop", [False, True])
def test_stdout_holds_only_the_json(start: Start, library: str, stop: bool) -> None:
    reader, writer = os.pipe()
    length = [] if stop else ["--epochs", "2"]
    run = start(library, "--output", "json", *length, stdout=writer)
    os.close(writer)
    if stop:
        run.wait_for_epochs()
        run.type("\x03")
    with os.fdopen(reader) as pipe:
        result = json.loads(pipe.read())

    assert run.end() == (75 if stop else 0)
    assert result["status"] == ("stopped" if stop else "succeeded")
    assert result["lane_products"]["lanes"] == 2


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_killed_rank_leaves_stdout_without_notices(start: Start, library: str) -> None:
    reader, writer = os.pipe()
    run = start(library, "--output", "json", stdout=writer)
    os.close(writer)
    run.wait_for_epochs()

    run.ranks()[0].kill()

    assert run.end() == 137
    with os.fdopen(reader) as pipe:
        assert pipe.read().strip() == ""


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_closed_stdout_does_not_end_the_run(start: Start, library: str) -> None:
    reader, writer = os.pipe()
    run = start(library, "--epochs", "3", stdout=writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)

    assert run.end() == 0, run.output
    assert json.loads((run.folder / "result.json").read_text())["status"] == "succeeded"


def test_streams_that_the_caller_has_closed_end_nothing(start: Start) -> None:
    folder = start.folder / "run"
    words = ("train", str(start.spec), "-n", "2", "--epochs", "2", "--run", str(folder))
    closing = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]

    run = start.run(folder, "openmpi", [*closing, *start.command("openmpi", *words)])

    assert run.end() == 0
    assert json.loads((folder / "result.json").read_text())["status"] == "succeeded"


@pytest.mark.parametrize("library", LIBRARIES)
def test_bad_input_is_reported_without_a_notice(start: Start, library: str) -> None:
    start.spec.write_text(SPEC.replace("epochs = 100000", "epoch = 100000"))

    run = start(library)

    assert run.end() == 2
    lines = run.output.splitlines()
    assert lines[0].startswith("error:")
    # MPICH ends no rank when another exits: the second one reports the same, later.
    assert all("train.epoch: unknown field" in line for line in lines), run.output


def test_nohup_ignores_a_lost_terminal(start: Start) -> None:
    folder = start.folder / "run"
    command = [DBP, "train", str(start.spec), "--run", str(folder), "-n", "2"]
    ignoring = ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]  # as nohup does
    run = start.run(folder, "openmpi", [*ignoring, *command])
    run.wait_for_epochs()

    run.process.send_signal(signal.SIGHUP)
    run.wait_for_epochs(3)
    run.process.send_signal(signal.SIGTERM)

    assert run.end() == 75


def test_the_parent_of_mpirun_imports_neither_numpy_nor_mpi(tmp_path: Path) -> None:
    script = """
import sys
import dbp.cli.mpirun.parent, dbp.cli.train.command, dbp.train.report.run_folder
print([name for name in ("numpy", "mpi4py", "grpc", "rich") if name in sys.modules])
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert found.stdout == "[]\n"
