"""`dbp doctor`: report what this machine has and lacks for training over MPI, with remedies."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from dbp.cli.doctor.packages import MODULES, import_errors, installed_version, requirement
from dbp.cli.doctor.probe import python_command, run_probe
from dbp.cli.screen.output import output_option, table
from dbp.cores import usable_cores
from dbp.exit_codes import exit_text
from dbp.launching import (
    INSTALL_MPIRUN,
    THREAD_VARIABLES,
    find_mpirun,
    worker_command,
)
from dbp.quantities import count_text

SHOWN: Final = ("numpy", "mpi4py", "grpcio", "protobuf")  # each in a line of its own
LEAST_SHM_BYTES: Final = 64 << 20

# Run in processes of their own: a broken MPI may end the process that loads it.
LIBRARY_PROBE: Final = (
    "from mpi4py import MPI; print(MPI.Get_library_version().split(',')[0].splitlines()[0])"
)
RANKS_PROBE: Final = (
    "from mpi4py import MPI; w = MPI.COMM_WORLD; w.Get_rank() or print('size', w.Get_size())"
)
KERNEL_PROBE: Final = (
    "import numpy\nfrom dbp.optim.adam_kernel import SOURCE, adam_kernel\n"
    "from dbp.optim.compiled import load\nload(SOURCE)\n"
    "assert adam_kernel(numpy.dtype('float32')), 'it rounds in another way than numpy'"
)
BLAS_PROBE: Final = (
    "import json, numpy, threadpoolctl; print(json.dumps(threadpoolctl.threadpool_info()))"
)


@dataclass(frozen=True)
class Finding:
    """Result of one check. ``verdict``: ok, warning or missing; ``fix``: remedy unless ok."""

    name: str
    verdict: str
    value: str
    fix: str = ""


@click.command()
@output_option
def doctor(output: str) -> None:
    """Check what training over MPI needs on this machine; print a remedy for each fault.

    Exit code 0 if `mpirun -n 2 dbp train` would work, 1 otherwise.
    """
    findings = list(examine())
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        rows = [("CHECK", "VERDICT", "FOUND")]
        click.echo(table([*rows, *((f.name, f.verdict, f.value) for f in findings)]))
        for finding in findings:
            if finding.fix:
                click.echo(f"{finding.name}: {finding.fix}")
    sys.exit(1 if any(finding.verdict == "missing" for finding in findings) else 0)


def examine() -> Iterator[Finding]:
    """Yield every finding, in the order of how much depends on it."""
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield from _packages()
    mpirun = find_mpirun()
    library = _mpi_library()
    yield _mpirun_finding(mpirun)
    yield library
    if mpirun is not None and library.verdict == "ok":
        yield _match(mpirun, library.value)
    yield _cores()
    yield _blas()
    yield _kernel()
    yield _shared_memory()
    yield _user()


def _packages() -> Iterator[Finding]:
    """Judge the packages that dbp needs by importing them; good minor ones are one finding."""
    versions = {name: installed_version(name) for name in MODULES}
    errors = import_errors([name for name, version in versions.items() if version])
    good = []
    for name, version in versions.items():
        if version is None:
            yield Finding(name, "missing", "not installed", f"pip install {requirement(name)}")
        elif name in errors:
            value = f"{version} is installed, but cannot be imported: {errors[name]}"
            fix = f"pip install --force-reinstall --no-cache-dir {requirement(name)}"
            yield Finding(name, "missing", value, fix)
        elif name in SHOWN:
            yield Finding(name, "ok", version)
        else:
            good.append(name)
    if good:
        yield Finding("others", "ok", f"{count_text(len(good), 'package')} imported")


def _mpirun_finding(mpirun: Path | None) -> Finding:
    if mpirun is None:
        return Finding(
            "mpirun", "missing", "not beside this Python nor on PATH", INSTALL_MPIRUN
        )
    done = run_probe([str(mpirun), "--version"])
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not lines:
        reason = f"{mpirun} --version: {_first_line(done.stderr) or exit_text(done.returncode)}"
        return Finding("mpirun", "missing", reason, INSTALL_MPIRUN)
    version = next((line for line in lines if line.startswith("Version:")), lines[0])
    return Finding("mpirun", "ok", f"{mpirun} ({' '.join(version.split())})")


def _mpi_library() -> Finding:
    # One process without mpirun: any other transport would leave a file in shared memory.
    done = run_probe(python_command(LIBRARY_PROBE), OMPI_MCA_btl="self")
    if done.returncode == 0:
        return Finding("MPI library", "ok", done.stdout.strip())
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no MPI library"
    return Finding("MPI library", "missing", f"mpi4py finds none: {reason}", INSTALL_MPIRUN)


def _match(mpirun: Path, library: str) -> Finding:
    """Whether ranks started by this mpirun see each other through this library."""
    done = run_probe(worker_command(2, python_command(RANKS_PROBE), mpirun=mpirun))
    if done.returncode == 0 and done.stdout.split() == ["size", "2"]:
        return Finding("both together", "ok", "2 ranks see each other")
    if done.stdout.split()[:2] == ["size", "1"]:
        return Finding(
            "both together",
            "missing",
            f"every process is rank 0 of 1: this mpirun is not that of {library}",
            f"put the mpirun of {library} first on PATH, or set MPI4PY_LIBMPI to the library "
            f"of {mpirun}",
        )
    text = _first_line(done.stderr) or "no output"
    fix = INSTALL_MPIRUN
    if own := sorted(name for name in os.environ if name.startswith("OMPI_MCA_")):
        fix = f"try without {', '.join(own)} of your environment; else {fix}"
    return Finding(
        "both together", "missing", f"mpirun: {exit_text(done.returncode)}: {text}", fix
    )


def _first_line(output: str) -> str:
    """Return the first line of an MPI's message: not a frame, nor a process's own report."""
    lines = [line.strip() for line in output.splitlines() if any(map(str.isalpha, line))]
    return next((line for line in lines if not line.startswith(("[", "*"))), "".join(lines[:1]))


def _cores() -> Finding:
    cores = usable_cores()
    value = f"{cores} usable of {os.cpu_count()}"
    if cores > 1:
        return Finding("cores", "ok", f"{value}: up to {cores} workers at full speed")
    fix = "all workers share this core: training works, but more workers are not faster"
    return Finding("cores", "warning", value, fix)


def _blas() -> Finding:
    done = run_probe(python_command(BLAS_PROBE), **dict.fromkeys(THREAD_VARIABLES, ""))
    if done.returncode != 0:
        return Finding("BLAS", "warning", "unknown", "pip install --force-reinstall numpy")
    found = [info for info in json.loads(done.stdout) if info.get("user_api") == "blas"]
    if not found:
        return Finding("BLAS", "warning", "none that is known", "install numpy from a wheel")
    blas = found[0]
    kernels = f" ({blas['architecture']} kernels)" if blas.get("architecture") else ""
    value = (
        f"{blas['internal_api']} {blas['version']}{kernels}, "
        f"{count_text(blas['num_threads'], 'thread')} by itself"
    )
    return Finding("BLAS", "ok", f"{value}, 1 a rank under dbp")


def _kernel() -> Finding:
    done = run_probe(python_command(KERNEL_PROBE))
    if done.returncode == 0:
        return Finding("compiled Adam", "ok", "with numpy's bits")
    reason = (done.stderr.strip().splitlines() or ["unknown"])[-1].partition(": ")[2]
    fix = "training works without it; with a C compiler (gcc) updates of Adam are faster"
    return Finding("compiled Adam", "warning", f"none: {reason}", fix)


def _shared_memory() -> Finding:
    path = Path("/dev/shm")  # noqa: S108 (looked at, not written to)
    if not path.exists():
        return Finding("shared memory", "ok", "not by /dev/shm on this system")
    free = shutil.disk_usage(path).free
    value = f"{free >> 20:,} MiB free in {path}"
    if free >= LEAST_SHM_BYTES:
        return Finding("shared memory", "ok", value)
    fix = "give the container more (docker run --shm-size=1g), or remove leftovers there"
    return Finding("shared memory", "warning", value, fix)


def _user() -> Finding:
    home = os.environ.get("HOME")
    name = (
        "root (dbp sets OMPI_ALLOW_RUN_AS_ROOT for mpirun)" if os.geteuid() == 0 else "not root"
    )
    if home and Path(home).is_dir():
        return Finding("user", "ok", f"{name}, HOME {home}")
    return Finding("user", "warning", f"{name}, no HOME", "set HOME: mpirun needs it")
