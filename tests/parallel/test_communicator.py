"""One body for every communicator: inputs are functions of the rank, results of the size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dbp.launching import find_mpirun, launch_environment
from dbp.parallel.communicator import Communicator, SoloCommunicator
from dbp.parallel.threads import run_threads
from tests.deadline import DEADLINE
from tests.parallel.test_exchange import sums_of


def check_every_method(communicator: Communicator) -> int:
    rank, size = communicator.rank, communicator.size
    for length in (1, 1000, 1_500_000):
        buffer = np.full(length, rank + 1, np.float32)
        communicator.allreduce(buffer)
        assert (buffer == size * (size + 1) / 2).all()

    buffer = np.full(5, rank, np.float64)
    communicator.broadcast(buffer, root=size - 1)
    assert (buffer == size - 1).all()

    whole = np.empty(3 * size, np.float32)
    communicator.allgather(np.full(3, rank, np.float32), whole)
    assert whole.tolist() == [r for r in range(size) for _ in range(3)]

    # Rank r sends d+1 copies of 10 r + d to rank d: uneven runs.
    send = np.concatenate([np.full(d + 1, 10 * rank + d, np.float32) for d in range(size)])
    receive = np.empty(size * (rank + 1), np.float32)
    communicator.alltoall(send, [d + 1 for d in range(size)], receive, [rank + 1] * size)
    assert receive.tolist() == [10 * r + rank for r in range(size) for _ in range(rank + 1)]

    received = np.empty(size * (rank + 1), np.float32)
    counts = [d + 1 for d in range(size)]
    pending = communicator.start_alltoall(send, counts, received, [rank + 1] * size)
    pending.advance()
    pending.wait()
    assert received.tolist() == receive.tolist()

    # Rank r gives r elements: uneven parts, one of them empty.
    gathered = np.full(sum(range(size)), -1.0)
    communicator.start_allgather(np.full(rank, rank, float), gathered, list(range(size))).wait()
    assert gathered.tolist() == [r for r in range(size) for _ in range(r)]

    check_shared_memory(communicator)
    communicator.barrier()
    return rank


def check_shared_memory(communicator: Communicator) -> None:
    rank, size = communicator.rank, communicator.size
    assert communicator.can_share(1000)
    regions = communicator.share(rank + 1, np.float64)
    assert [region.tolist() for region in regions] == [[0.0] * (r + 1) for r in range(size)]
    communicator.barrier()
    regions[rank][0] = rank + 1
    communicator.barrier()
    assert [region[0] for region in regions] == [r + 1 for r in range(size)]
    communicator.barrier()
    regions[(rank + 1) % size][-1] = 7  # another rank's
    communicator.barrier()
    assert regions[rank][-1] == 7


def test_the_solo_communicator_keeps_the_contract() -> None:
    assert check_every_method(SoloCommunicator()) == 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_thread_ranks_keep_the_contract(size: int) -> None:
    assert run_threads(size, check_every_method) == list(range(size))


def test_a_failing_thread_releases_the_others_and_is_named() -> None:
    def fail_on_rank_1(communicator: Communicator) -> None:
        if communicator.rank == 1:
            raise ValueError("poisoned")
        communicator.barrier()

    with pytest.raises(ValueError, match="poisoned") as raised:
        run_threads(3, fail_on_rank_1)

    assert raised.value.__notes__ == ["on rank 1 of 3"]


MpiRun = Callable[[int, str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def mpirun(tmp_path: Path) -> MpiRun:
    """Run a program as some ranks of the mpirun that belongs to this Python."""

    def run(size: int, program: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        script.write_text(program)
        environment = {**launch_environment(size), "PYTHONPATH": os.pathsep.join(sys.path)}
        environment["TMPDIR"] = str(tmp_path)
        return subprocess.run(
            [str(find_mpirun()), "-n", str(size), "--oversubscribe", "--bind-to", "none",
             sys.executable, str(script)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE, env=environment,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("size", [2, 3])
def test_mpi_ranks_keep_the_contract(mpirun: MpiRun, size: int) -> None:
    result = mpirun(
        size,
        "from dbp.parallel.mpi import connect\n"
        "from tests.parallel.test_communicator import check_every_method\n"
        "print('rank', check_every_method(connect()), flush=True)\n",
    )

    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split("\n"))[1:] == [f"rank {r}" for r in range(size)]


def test_all_ranks_send_messages_if_one_rank_lacks_shared_memory(mpirun: MpiRun) -> None:
    result = mpirun(
        2,
        "import logging\n"
        "logging.basicConfig(format='%(message)s')\n"
        "import dbp.parallel.mpi as m\n"
        "from tests.parallel.test_exchange import sums_of\n"
        "c = m.connect()\n"
        "if c.rank == 1: m._free_bytes = lambda folder: 1000.0\n"
        "print('can', c.can_share(400), c.can_share(4000), flush=True)\n"
        "sums = sums_of(c, 'exact', 8, 61, 'sharded')\n"
        "if c.rank == 1: print([s.hex() for s in sums], flush=True)\n",
    )

    expected = [s.hex() for s in sums_of(SoloCommunicator(), "exact", 8, 61)]
    assert result.returncode == 0, result.stderr
    lines = sorted(result.stdout.splitlines())
    assert lines == [str(expected), "can True False", "can True False"]
    assert result.stderr.count("the ranks send messages instead") >= 1


def test_exact_sums_through_mpi_have_the_bits_of_one_process(mpirun: MpiRun) -> None:
    expected = [s.hex() for s in sums_of(SoloCommunicator(), "exact", 8, 61)]

    result = mpirun(
        3,
        "from dbp.parallel.mpi import connect\n"
        "from tests.parallel.test_exchange import sums_of\n"
        "c = connect()\n"
        "sums = sums_of(c, 'exact', 8, 61)\n"
        "if c.rank == 2: print([s.hex() for s in sums], flush=True)\n",
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(expected)


@pytest.mark.skipif(sys.platform != "linux", reason="a process chooses its core")
def test_waiting_ranks_yield_their_core_unless_the_user_says_otherwise(
    mpirun: MpiRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, time\n"
        "from dbp.parallel.mpi import connect\n"
        "c = connect()\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "c.barrier()\n"
        "start = time.process_time()\n"
        "for _ in range(300): c.barrier()\n"
        "if c.rank == 0: print(time.process_time() - start)\n"
    )

    yielding = mpirun(2, program)
    monkeypatch.setenv("OMPI_MCA_mpi_yield_when_idle", "0")
    spinning = mpirun(2, program)

    assert yielding.returncode == spinning.returncode == 0, yielding.stderr + spinning.stderr
    # Processor time, not time: what else runs on the machine does not count.
    assert 3 * float(yielding.stdout) < float(spinning.stdout)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failing_rank_ends_the_job_with_its_traceback_shown_once(
    mpirun: MpiRun, failing: int
) -> None:
    result = mpirun(
        2,
        "from dbp.parallel.mpi import aborting, connect\n"
        "c = connect()\n"
        "with aborting(c):\n"
        f"    if c.rank == {failing}: raise RuntimeError('poisoned sample')\n"
        "    while True: c.barrier()\n",
    )

    assert result.returncode != 0
    assert result.stderr.count("RuntimeError: poisoned sample") == 1
    assert f"rank {failing} of 2 failed" in result.stderr


@pytest.mark.parametrize("code", ["0", "", "'enough'"])
def test_a_rank_that_calls_exit_does_not_leave_the_others_waiting(
    mpirun: MpiRun, code: str
) -> None:
    result = mpirun(
        2,
        "import sys\n"
        "from dbp.parallel.mpi import aborting, connect\n"
        "c = connect()\n"
        "with aborting(c):\n"
        f"    if c.rank == 1: sys.exit({code})\n"
        "    while True: c.barrier()\n",
    )

    assert result.returncode == 1
    assert f"rank 1 of 2 called sys.exit({code or None})" in result.stderr


def test_a_launcher_of_another_mpi_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    environment |= {"OMPI_MCA_btl": "self", "TMPDIR": str(tmp_path)}

    result = subprocess.run(
        [sys.executable, "-c", "from dbp.parallel.mpi import connect; connect()"],
        capture_output=True, text=True, timeout=DEADLINE, env=environment,
    )  # fmt: skip

    assert "MPI counts 1 rank, but 2 were launched by Open MPI" in result.stderr
    assert "dbp doctor" in result.stderr


SLURM_STEP = {
    "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2", "OMPI_MCA_btl": "self",
}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "srun started 2 tasks without MPI support, so that each would be rank 0 of 1"),
        # A PMI that the MPI library cannot use: its ranks do not find each other.
        (
            {"PMI_UNUSABLE": "1"},
            "MPI counts 1 rank, but srun started 2: mpi4py uses Open MPI v",
        ),
    ],
)
def test_srun_without_mpi_support_is_named_with_the_remedy(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    environment = {**os.environ, **SLURM_STEP, "TMPDIR": str(tmp_path), **variables}

    result = subprocess.run(
        [sys.executable, "-c", "from dbp.parallel.mpi import connect; connect()"],
        capture_output=True, text=True, timeout=DEADLINE, env=environment,
    )  # fmt: skip

    assert message in result.stderr
    assert "`srun --mpi=pmix -n 2 dbp train ...`" in result.stderr
    assert "`mpirun -n 2 dbp train ...`" in result.stderr


def test_an_mpi_library_that_cannot_be_loaded_is_named_with_the_remedy(tmp_path: Path) -> None:
    # mpi4py raises a RuntimeError here, and an ImportError elsewhere.
    environment = {**os.environ, "MPI4PY_LIBMPI": str(tmp_path / "libmpi.so.40")}

    result = subprocess.run(
        [sys.executable, "-c", "from dbp.parallel.mpi import connect; connect()"],
        capture_output=True, text=True, timeout=DEADLINE, env=environment,
    )  # fmt: skip

    assert "MissingDependency: mpi4py finds no MPI library (cannot load" in result.stderr
    assert "apt-get install openmpi-bin" in result.stderr
