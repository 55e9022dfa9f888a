"""SIGTERM to the mpirun of `dbp train -n 2` alone, as a resource manager may send it."""

from __future__ import annotations

import pytest

from tests.system.terminal_run import LIBRARIES, Start, is_checkpointed


@pytest.mark.parametrize("library", LIBRARIES)
def test_sigterm_to_mpirun_loses_no_step(start: Start, library: str) -> None:
    run = start(library)
    run.wait_for_epochs()

    run.children()[0].terminate()

    # Open MPI's mpirun forwards the signal, drops the ranks' last lines and exits with 1.
    assert run.end() == (1 if library == "openmpi" else 75), run.output
    is_checkpointed(run)
