"""Import the packages that dbp needs, in another process: a broken one may end its process."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
from typing import Final

from dbp.cli.doctor.probe import python_command, run_probe

# Package, and a module of it that loads its compiled parts. dbp's own messages load only with
# a protobuf that is new enough for them.
MODULES: Final = {
    "numpy": "numpy.linalg",
    "mpi4py": "mpi4py",
    "grpcio": "grpc",
    "protobuf": "dbp.v1.job_pb2",
    "click": "click",
    "google-crc32c": "google_crc32c",
    "googleapis-common-protos": "google.rpc.error_details_pb2",
    "grpcio-health-checking": "grpc_health.v1.health",
    "grpcio-reflection": "grpc_reflection.v1alpha.reflection",
    "ml-dtypes": "ml_dtypes",
    "platformdirs": "platformdirs",
    "psutil": "psutil",
    "rich": "rich.console",
    "threadpoolctl": "threadpoolctl",
}

# Prints a line for each package: its name alone before the import, name and verdict after it.
IMPORTS: Final = """
import importlib, sys
for argument in sys.argv[1:]:
    name, module = argument.split("=")
    print(name, flush=True)
    try:
        importlib.import_module(module)
    except BaseException as error:
        first = (str(error).strip().splitlines() or [""])[0]
        print(name, f"{type(error).__name__}: {first}", flush=True)
    else:
        print(name, "ok", flush=True)
"""


def installed_version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirement(package: str) -> str:
    """Return the package with the versions that dbp asks for, quoted for a shell."""
    try:
        wanted = importlib.metadata.requires("dbp") or []
    except importlib.metadata.PackageNotFoundError:  # dbp runs from its source
        wanted = []
    pattern = re.compile(rf"{re.escape(package)}(?![\w.-])[^;]*$", re.IGNORECASE)
    return next((f"'{line}'" for line in wanted if pattern.match(line)), package)


def import_errors(packages: list[str]) -> dict[str, str]:
    """Import the packages; return for each that fails the reason, on one line."""
    errors: dict[str, str] = {}
    left = list(packages)
    while left:
        arguments = [f"{name}={MODULES[name]}" for name in left]
        done = run_probe(
            python_command(IMPORTS, *arguments), PYTHONPATH=os.environ.get("PYTHONPATH", "")
        )
        lines = [line.partition(" ")[::2] for line in done.stdout.splitlines()]
        errors |= {name: text for name, text in lines if text not in ("", "ok")}
        judged = {name for name, text in lines if text}
        left = [name for name in left if name not in judged]
        if left:  # the process ended in the import of the first of them
            errors[left.pop(0)] = _ending(done.returncode, done.stderr)
    return errors


def _ending(code: int, errors: str) -> str:
    if code < -1:
        return f"Python was ended by signal {-code} ({signal.strsignal(-code)})"
    reason = errors.strip().splitlines()[-1:] or [f"exit code {code}"]
    return f"Python ended: {reason[0]}"
