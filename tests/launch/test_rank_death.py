"""Notices of mpirun, as Open MPI 5.0.11 and 4.1.4 and MPICH 5.0.2 print them."""

from __future__ import annotations

import socket
from typing import Final

import pytest

from dbp.heartbeat.slots import FIRST_RANK, Beat
from dbp.launch.rank_death import RankDeath, death_in, lone_death

RULE: Final = "-" * 74
OPEN_MPI_5: Final = f"""training
{RULE}
prterun noticed that process rank 1 with PID 16328 on node vm exited on
signal 9 (Killed).
{RULE}
"""
OPEN_MPI_4: Final = f"""{RULE}
mpirun noticed that process rank 1 with PID 0 on node vm exited on signal 9 (Killed).
{RULE}
"""
OPEN_MPI_CODE: Final = f"""{RULE}
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-vm-16328@1,1] Exit code:    3
{RULE}
"""
OPEN_MPI_4_CODE: Final = f"""{RULE}
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[20738,1],1]
  Exit code:    3
{RULE}
"""
PMIX_LINE: Final = "[vm:16671] PMIX ERROR: PMIX_ERR_UNREACH in file server.c at line 3146\n"
EQUALS: Final = "=" * 83
MPICH: Final = f"""
{EQUALS}
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 16599 RUNNING AT vm
=   EXIT CODE: 9
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
{EQUALS}
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)
This typically refers to a problem with your application.
Please see the FAQ page for debugging suggestions
"""
MPICH_CODE: Final = MPICH.partition("YOUR APPLICATION TERMINATED")[0].replace(
    "CODE: 9", "CODE: 3"
)
INTEL: Final = f"""{EQUALS}
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   RANK 1 PID 16599 RUNNING AT vm
=   KILLED BY SIGNAL: 9 (Killed)
{EQUALS}
"""

BEATS: Final = [Beat()] * FIRST_RANK + [Beat(pid=16598, step=12), Beat(pid=16599, step=13)]
KILLED: Final = RankDeath(1, "vm", signal=9, step=13)


@pytest.mark.parametrize("notice", [OPEN_MPI_5, OPEN_MPI_4, MPICH, INTEL])
def test_a_notice_names_rank_host_and_signal(notice: str) -> None:
    assert death_in(notice, BEATS) == KILLED


@pytest.mark.parametrize(
    ("notice", "host"), [(OPEN_MPI_CODE, ""), (OPEN_MPI_4_CODE, ""), (MPICH_CODE, "vm")]
)
def test_a_notice_names_rank_and_exit_code(notice: str, host: str) -> None:
    assert death_in(notice, BEATS) == RankDeath(1, host, exit_code=3, step=13)


@pytest.mark.parametrize("notice", [OPEN_MPI_5, OPEN_MPI_4_CODE])
def test_a_line_of_another_thread_may_come_after_any_line_of_a_notice(notice: str) -> None:
    lines = notice.splitlines(keepends=True)
    for place in range(len(lines) + 1):
        text = "".join([*lines[:place], PMIX_LINE, *lines[place:]])

        assert death_in(text, BEATS) == death_in(notice, BEATS)


def test_the_newest_notice_counts() -> None:
    quoted = OPEN_MPI_5.replace("rank 1", "rank 0")

    assert death_in(quoted + OPEN_MPI_5, BEATS) == KILLED


def test_a_process_that_has_not_reported_has_no_rank() -> None:
    assert death_in(MPICH, BEATS[:FIRST_RANK]) == RankDeath(None, "vm", signal=9)


def test_output_without_a_notice_names_none() -> None:
    assert death_in("training\nsignal 9 is a number\n", BEATS) is None


def test_the_only_rank_is_its_own_command() -> None:
    assert lone_death(0, BEATS) is None
    assert lone_death(-9, BEATS) == RankDeath(0, socket.gethostname(), signal=9, step=12)
    assert lone_death(3, []) == RankDeath(0, socket.gethostname(), exit_code=3)
