"""`dbp doctor`: report what this machine has and lacks for training over MPI, with remedies."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from dbp.cli.output import output_option, table
from dbp.launching import (
    INSTALL_MPIRUN,
    THREAD_VARIABLES,
    find_mpirun,
    launch_environment,
    usable_cores,
    worker_command,
)
from dbp.quantities import count_text

PROBE_SECONDS: Final = 60.0
ENDING_SECONDS: Final = 5.0
LEAST_SHM_BYTES: Final = 64 << 20

# Run in processes of their own: a broken MPI may end whoever loads it.
LIBRARY_PROBE: Final = (
    "from mpi4py import MPI; print(MPI.Get_library_version().split(',')[0].splitlines()[0])"
)
RANKS_PROBE: Final = (
    "from mpi4py import MPI; w = MPI.COMM_WORLD; w.Get_rank() or print('size', w.Get_size())"
)
BLAS_PROBE: Final = (
    "import json, numpy, threadpoolctl; print(json.dumps(threadpoolctl.threadpool_info()))"
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``verdict``: ok, warning or missing; ``fix`` unless ok."""

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
    yield _shared_memory()
    yield _user()


def _packages() -> Iterator[Finding]:
    for name in ("numpy", "mpi4py", "grpcio", "protobuf"):
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", f"pip install {name}")


def _mpirun_finding(mpirun: Path | None) -> Finding:
    if mpirun is None:
        return Finding(
            "mpirun", "missing", "not beside this Python nor on PATH", INSTALL_MPIRUN
        )
    done = _run([str(mpirun), "--version"])
    version = done.stdout.strip().splitlines()[0] if done.stdout.strip() else "version unknown"
    return Finding("mpirun", "ok", f"{mpirun} ({version})")


def _mpi_library() -> Finding:
    # One process without mpirun: any other transport would leave a file in shared memory.
    done = _run([sys.executable, "-c", LIBRARY_PROBE], OMPI_MCA_btl="self")
    if done.returncode == 0:
        return Finding("MPI library", "ok", done.stdout.strip())
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no MPI library"
    return Finding("MPI library", "missing", f"mpi4py finds none: {reason}", INSTALL_MPIRUN)


def _match(mpirun: Path, library: str) -> Finding:
    """Whether ranks started by this mpirun see each other through this library."""
    done = _run(worker_command(2, [sys.executable, "-c", RANKS_PROBE], mpirun=mpirun))
    if done.returncode == 0 and done.stdout.split() == ["size", "2"]:
        return Finding("both together", "ok", "2 ranks see each other")
    if done.stdout.split()[:2] == ["size", "1"]:
        return Finding(
            "both together",
            "missing",
            f"every process is rank 0 of 1: this mpirun is not that of {library}",
            "put that library's mpirun first on PATH, or name this mpirun's in MPI4PY_LIBMPI",
        )
    # Open MPI frames what it says with lines of dashes.
    lines = [line for line in done.stderr.splitlines() if any(map(str.isalpha, line))]
    text = lines[-1].strip() if lines else "no output"
    return Finding(
        "both together",
        "missing",
        f"mpirun ended with {done.returncode}: {text}",
        INSTALL_MPIRUN,
    )


def _cores() -> Finding:
    cores = usable_cores()
    value = f"{cores} usable of {os.cpu_count()}"
    if cores > 1:
        return Finding("cores", "ok", f"{value}: up to {cores} workers at full speed")
    fix = "workers share the one core; training works, without a gain from more of them"
    return Finding("cores", "warning", value, fix)


def _blas() -> Finding:
    done = _run([sys.executable, "-c", BLAS_PROBE], **dict.fromkeys(THREAD_VARIABLES, ""))
    if done.returncode != 0:
        return Finding("BLAS", "warning", "unknown", "pip install --force-reinstall numpy")
    found = [info for info in json.loads(done.stdout) if info.get("user_api") == "blas"]
    if not found:
        return Finding("BLAS", "warning", "none that is known", "install numpy from a wheel")
    blas = found[0]
    value = (
        f"{blas['internal_api']} {blas['version']}, "
        f"{count_text(blas['num_threads'], 'thread')} by itself"
    )
    return Finding("BLAS", "ok", f"{value}, 1 a rank under dbp")


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
    name = "root (mpirun is told that this is meant)" if os.geteuid() == 0 else "not root"
    if home and Path(home).is_dir():
        return Finding("user", "ok", f"{name}, HOME {home}")
    return Finding("user", "warning", f"{name}, no HOME", "set HOME: mpirun needs it")


def _run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a probe in a rank's environment; an empty variable is left out."""
    environment = {**launch_environment(2), **variables}
    environment = {name: value for name, value in environment.items() if value}
    with tempfile.TemporaryDirectory(prefix="dbp-doctor-") as folder:
        environment["TMPDIR"] = folder
        try:
            probe = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, -1, "", str(error))
        try:
            out, err = probe.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired as error:
            _end(probe)
            return subprocess.CompletedProcess(command, -1, "", str(error))
        return subprocess.CompletedProcess(command, probe.returncode, out, err)


def _end(probe: subprocess.Popen[str]) -> None:
    """End a probe that hangs; mpirun takes its ranks along if it is asked, not if killed."""
    probe.terminate()
    try:
        probe.communicate(timeout=ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.wait()
        for stream in (probe.stdout, probe.stderr):
            if stream is not None:
                stream.close()
