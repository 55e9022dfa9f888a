"""Run a short program in a process of its own, in the environment of a launched rank."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import Final

from dbp.launching import launch_environment

PROBE_SECONDS: Final = 60.0
ENDING_SECONDS: Final = 5.0


def run_probe(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a rank's environment and return how it ended.

    ``variables`` come in addition; an empty one is removed. A command that cannot be started,
    or that takes longer than PROBE_SECONDS and is ended, has the exit code -1 and the reason
    as its stderr.
    """
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


def python_command(program: str, *arguments: str) -> list[str]:
    """Return the command that runs a program text by this Python, as ranks run theirs."""
    return [sys.executable, "-P", "-c", program, *arguments]


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
