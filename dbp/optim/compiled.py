"""Compile a C source of this package and load it, for this process alone.

Nothing is kept: a library in a cache could be damaged, made for another processor, or written
by another user. Compiling takes a tenth of a second. The caller compares the bits with numpy's
before it uses the library.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from dbp.errors import DbpError

SWITCH: Final = "DBP_KERNELS"  # numpy: compile nothing
COMPILERS: Final = ("cc", "gcc", "clang")
# No fused multiply-add, which rounds once instead of twice; no errno, which sqrt may set: the
# loop could not be vectorized.
FLAGS: Final = (
    "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared",
)  # fmt: skip
SECONDS: Final = 10.0


class NotCompiledError(DbpError):
    """There is no compiled library; the text says why."""


def load(source: Path) -> ctypes.CDLL:
    """Return the library of a C source.

    Raises NotCompiledError if it is switched off, there is no compiler, or it cannot be
    compiled or loaded.
    """
    if os.environ.get(SWITCH) == "numpy":
        raise NotCompiledError(f"{SWITCH}=numpy")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NotCompiledError(f"no C compiler ({', '.join(COMPILERS)}) on PATH")
    try:
        with tempfile.TemporaryDirectory(prefix="dbp-kernel-", ignore_cleanup_errors=True) as f:
            library = Path(f) / f"{source.stem}.so"
            _run([compiler, *FLAGS, "-o", str(library), str(source)], Path(f))
            return ctypes.CDLL(str(library))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NotCompiledError(str(error)) from None


def _run(command: list[str], folder: Path) -> None:
    """Run a compiler, whose temporary files are in ``folder``; leave none of its processes.

    Raises NotCompiledError if it fails or takes too long.
    """
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            _, text = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise NotCompiledError(f"{command[0]}: not done after {SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise NotCompiledError(
            f"{command[0]}: exit code {process.returncode}: {text.strip()[:200]}"
        )
