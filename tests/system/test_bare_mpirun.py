"""Signals to a bare mpirun, of both MPI libraries, on a terminal."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from tests.system.terminal_run import (
    LIBRARIES,
    Start,
    is_stopped_well,
    steps_of_checkpoints,
    wait_until,
)

SLOW_DISK = """
import sys, time
from dbp.train.state.checkpoint import CheckpointStore

write = CheckpointStore.write
def slow(*arguments, **options):
    time.sleep(2)
    return write(*arguments, **options)
CheckpointStore.write = slow

from dbp.cli.main import main
main(sys.argv[1:])
"""


def test_ctrl_c_at_a_bare_mpirun_of_open_mpi_leaves_a_checkpoint(start: Start) -> None:
    """Half a second is left after Ctrl-C; on a busy machine a step can take longer."""
    for _ in range(5):
        run = start.bare("openmpi")
        run.wait_for_epochs()
        run.type("\x03")
        assert run.end() == 1
        run.leaves_nothing()
        if steps_of_checkpoints(run.folder):
            break

    step = steps_of_checkpoints(run.folder)[-1]
    resume = start.command("openmpi", "train", "--resume", str(run.folder))
    again = start.run(run.folder, "openmpi", resume)
    wait_until(lambda: again.epochs() > step // 26 + 1, "training continues")
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 75


def test_ctrl_c_at_a_bare_mpirun_does_not_cut_off_the_writing(start: Start) -> None:
    """The disk is slower than the half second that mpirun grants."""
    script = start.folder / "slow.py"
    script.write_text(SLOW_DISK)
    run = start.bare("openmpi", [sys.executable, str(script)])
    run.wait_for_epochs()

    run.type("\x03")

    assert run.end() == 1
    wait_until(lambda: steps_of_checkpoints(run.folder), "a checkpoint")
    run.leaves_nothing()


def test_ctrl_c_at_a_bare_mpirun_of_mpich_stops_after_the_step(start: Start) -> None:
    run = start.bare("mpich")
    run.wait_for_epochs()

    run.type("\x03")

    assert run.end() == 75, run.output
    is_stopped_well(run)


@pytest.mark.parametrize("library", LIBRARIES)
def test_sigusr1_to_a_bare_mpirun_stops_after_the_step(start: Start, library: str) -> None:
    run = start.bare(library)
    run.wait_for_epochs()

    run.process.send_signal(signal.SIGUSR1)

    assert run.end() == 75, run.output
    assert f"continue with:  dbp train --resume {run.folder}" in run.output
    result = json.loads((run.folder / "result.json").read_text())
    assert steps_of_checkpoints(run.folder)[-1] == result["step"]
    run.leaves_nothing()
