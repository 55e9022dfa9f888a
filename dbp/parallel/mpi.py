"""The MPI communicator, and how a process joins MPI. The only module that imports mpi4py."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, final

import numpy as np
import numpy.typing as npt

from dbp.errors import MissingDependency
from dbp.launching import (
    INSTALL_MPIRUN,
    SLURM,
    Launch,
    detect,
    set_mpi_defaults,
    srun_remedy,
    srun_without_mpi,
)
from dbp.parallel.communicator import MESSAGES, Buffer, Communicator, Pending
from dbp.quantities import count_text

logger = logging.getLogger("dbp")

# For one large allreduce, or many at once, MPI allocates temporary memory of half the size, and
# pays for its page faults. Chunks sent one by one stay in the processor's cache: twice the
# speed through shared memory (32 MB on 2 ranks: 11 ms instead of 24).
CHUNK_BYTES: Final = 4 << 20

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where MPI libraries put it on Linux
SHARING: Final = "DBP_SHARED_MEMORY"  # 0: send messages even where ranks could share memory


@final
class _Request(Pending):
    """A non-blocking MPI call under way."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def advance(self) -> None:
        self._request.Test()

    def wait(self) -> None:
        self._request.Wait()


@final
class MPICommunicator(Communicator):
    """The communicator of all ranks of MPI_COMM_WORLD."""

    def __init__(self, world: Any, mpi: Any, *, shares_memory: bool = True) -> None:
        """``shares_memory``: allow shared memory if all ranks are on one host."""
        self.rank = world.Get_rank()
        self.size = world.Get_size()
        self._world = world
        self._mpi = mpi
        self._host = world.Split_type(mpi.COMM_TYPE_SHARED, self.rank)
        self._shares_memory = shares_memory and self._host.Get_size() == self.size
        self._windows: list[Any] = []

    def hide_mapped_memory(self) -> None:
        """Remove the names of MPICH's shared memory once all ranks of the host have mapped it.

        The memory stays until the last of them ends, and a killed run leaves none: MPICH
        removes the names only in MPI_Finalize.
        """
        self._host.Barrier()
        if self._host.Get_rank() == 0:
            for name in _mapped_by_mpich():
                Path(name).unlink(missing_ok=True)

    def can_share(self, size_bytes: int, otherwise: str = MESSAGES) -> bool:
        if not self._shares_memory:
            return False
        wanted = np.array([size_bytes], np.float64)
        self.allreduce(wanted)
        free = _free_bytes(SHARED_MEMORY)
        short = np.array([float(free < wanted[0])])
        self.allreduce(short)
        if short[0] and self.rank == 0:
            logger.warning(
                "%s has %.0f MB free, but shared memory for all ranks needs %.0f MB: %s (in a "
                "container: raise --shm-size)",
                SHARED_MEMORY,
                free / 1e6,
                wanted[0] / 1e6,
                otherwise,
            )
        return not short[0]

    def share(self, size: int, dtype: npt.DTypeLike) -> list[Buffer]:
        if not self._shares_memory:
            raise RuntimeError("these ranks share no memory")
        item = np.dtype(dtype).itemsize
        window = self._mpi.Win.Allocate_shared(size * item, item, comm=self._host)
        window.Lock_all(self._mpi.MODE_NOCHECK)
        self._windows.append(window)
        regions = [
            np.frombuffer(window.Shared_query(rank)[0], dtype) for rank in range(self.size)
        ]
        regions[self.rank][:] = 0
        self.barrier()
        return regions

    def allreduce(self, buffer: Buffer) -> None:
        step = max(1, CHUNK_BYTES // buffer.itemsize)
        for start in range(0, buffer.size, step):
            chunk = buffer[start : start + step]
            self._world.Iallreduce(self._mpi.IN_PLACE, chunk).Wait()

    def broadcast(self, buffer: Buffer, root: int = 0) -> None:
        self._world.Bcast(buffer, root=root)

    def allgather(self, part: Buffer, whole: Buffer) -> None:
        self._world.Allgather(part, whole)

    def alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> None:
        self._world.Alltoallv((send, send_counts), (receive, receive_counts))

    def start_alltoall(
        self, send: Buffer, send_counts: list[int], receive: Buffer, receive_counts: list[int]
    ) -> Pending:
        ends = (send, send_counts), (receive, receive_counts)
        return _Request(self._world.Ialltoallv(*ends))

    def start_allgather(self, part: Buffer, whole: Buffer, counts: list[int]) -> Pending:
        return _Request(self._world.Iallgatherv(part, (whole, counts)))

    def barrier(self) -> None:
        for window in self._windows:
            window.Sync()
        self._world.Barrier()
        for window in self._windows:
            window.Sync()

    def abort(self, code: int) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or its reader is gone
                stream.flush()
        self._world.Abort(code)
        os._exit(code)


def connect(expected_size: int | None = None) -> MPICommunicator:
    """Initialize MPI; return the communicator of all ranks.

    ``expected_size`` is the number of ranks there should be (by default the number in the
    launcher's environment variables). Raises MissingDependency if mpi4py finds no MPI library,
    or if MPI counts another number of ranks: the mpirun of another MPI library than mpi4py's
    silently makes every process rank 0 of 1.
    """
    launch = detect(os.environ)
    if launch is not None and srun_without_mpi(launch, os.environ):  # Open MPI 4 would abort
        raise MissingDependency(
            f"srun started {count_text(launch.size, 'task')} without MPI support, so that each "
            f"would be rank 0 of 1; use {srun_remedy(launch.size)}"
        )
    set_mpi_defaults(os.environ, alone=launch is None and "PMIX_RANK" not in os.environ)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = "; ".join(dict.fromkeys((lines[0], lines[-1])))
        raise MissingDependency(
            f"mpi4py finds no MPI library ({reason}); {INSTALL_MPIRUN}"
        ) from error
    world = MPI.COMM_WORLD
    wanted = expected_size or (launch.size if launch else 1)
    if world.Get_size() != wanted:
        raise MissingDependency(_mismatch(world.Get_size(), wanted, launch, _library(MPI)))
    communicator = MPICommunicator(
        world, MPI, shares_memory=os.environ.get(SHARING, "1") != "0"
    )
    communicator.hide_mapped_memory()
    return communicator


def _mapped_by_mpich() -> set[str]:
    """Return the files of MPICH's shared memory that this process has mapped."""
    with contextlib.suppress(OSError):  # no Linux
        return set(
            re.findall(rf"{SHARED_MEMORY}/mpich_\S+", Path("/proc/self/maps").read_text())
        )
    return set()


def _library(mpi: Any) -> str:
    """Return name and version of the MPI library, "MPICH 5.0.2"."""
    line = mpi.Get_library_version().split(",")[0].splitlines()[0]
    return " ".join(line.replace(" Version:", "").split())


def _free_bytes(folder: str) -> float:
    """Return the free bytes of a folder's file system; infinity if unknown."""
    try:
        facts = os.statvfs(folder)
    except (OSError, AttributeError):
        return math.inf
    return float(facts.f_bavail * facts.f_frsize)


def _mismatch(counted: int, wanted: int, launch: Launch | None, library: str) -> str:
    """Return the error message for a wrong number of ranks, with the likely cause."""
    found = f"MPI counts {count_text(counted, 'rank')}"
    if launch is None:
        return (
            f"{found}, expected {wanted}: this process was started without mpirun; start it "
            f"with `mpirun -n {wanted}` ({library})"
        )
    if launch.size != wanted:
        return (
            f"{found} and {launch.launcher} launched {launch.size}, expected {wanted}; "
            f"start it with `mpirun -n {wanted}` ({library})"
        )
    if launch.launcher == SLURM:
        return (
            f"{found}, but srun started {wanted}: mpi4py uses {library}; "
            f"use {srun_remedy(wanted, library)}"
        )
    return (
        f"{found}, but {wanted} were launched by {launch.launcher}: mpi4py uses {library}; "
        "use that library's own mpirun (`dbp doctor` shows both)"
    )


@contextlib.contextmanager
def aborting(communicator: Communicator) -> Iterator[None]:
    """Abort all ranks if the block of this rank raises.

    If a failed rank only ended, the others would wait in a collective call for ever, and so
    would its MPI_Finalize at exit. So print the traceback here, once, and abort the whole
    job. A ``sys.exit`` inside the block is a failure too, even with code 0.
    """
    try:
        yield
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) and stop.code else 1
        if code != stop.code:
            _report(communicator, f"called sys.exit({stop.code!r}) before the end of the run\n")
        communicator.abort(code)
    except BaseException as error:
        _report(communicator, f"failed:\n{''.join(traceback.format_exception(error))}")
        communicator.abort(1)


def _report(communicator: Communicator, text: str) -> None:
    """Write a message of this rank to stderr; ignore a stderr that is closed."""
    with contextlib.suppress(Exception):
        sys.stderr.write(f"rank {communicator.rank} of {communicator.size} {text}")
