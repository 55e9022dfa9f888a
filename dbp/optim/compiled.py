"""Compile a C source of this package on its first use, and load it.

The result is kept in the user's cache folder, by the source, the flags and the processor. The
caller compares its bits with numpy's before it uses them.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from dbp.access.private_folder import make_private
from dbp.errors import DbpError

SWITCH: Final = "DBP_KERNELS"  # numpy: compile and load nothing
COMPILERS: Final = ("cc", "gcc", "clang")
# No fused multiply-add, which rounds once instead of twice; no errno, which sqrt may set: the
# loop could not be vectorized.
FLAGS: Final = (
    "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared",
)  # fmt: skip
SECONDS: Final = 60.0


class NotCompiledError(DbpError):
    """There is no compiled library; the text says why."""


def load(source: Path) -> ctypes.CDLL:
    """Return the library of a C source; compile it if no earlier process has.

    Raises NotCompiledError if it is switched off, there is no compiler, or it cannot be
    compiled, kept or loaded.
    """
    if os.environ.get(SWITCH) == "numpy":
        raise NotCompiledError(f"{SWITCH}=numpy")
    try:
        library = _folder() / f"{source.stem}-{_key(source)}.so"
        if not library.exists():
            _compile(source, library)
        return ctypes.CDLL(str(library))
    except (DbpError, OSError, subprocess.SubprocessError) as error:
        if isinstance(error, subprocess.CalledProcessError):
            raise NotCompiledError(f"{error.cmd[0]}: {error.stderr.strip()[:200]}") from None
        raise NotCompiledError(str(error)) from None


def _folder() -> Path:
    """Return the folder of compiled libraries, which no other user may have written to."""
    import platformdirs

    cache = platformdirs.user_cache_path("dbp")
    cache.mkdir(parents=True, exist_ok=True)
    return make_private(cache / "kernels")


def _key(source: Path) -> str:
    """Return a name for what decides about the machine code."""
    parts = [source.read_text(), *FLAGS, platform.machine(), _processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    """Return the instructions of the first processor, as Linux lists them."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _compile(source: Path, library: Path) -> None:
    """Compile to another name, then rename: a process that is killed leaves no half library."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NotCompiledError(f"no C compiler ({', '.join(COMPILERS)}) on PATH")
    with tempfile.TemporaryDirectory(prefix="build-", dir=library.parent) as folder:
        made = Path(folder) / library.name
        subprocess.run(
            [compiler, *FLAGS, "-o", str(made), str(source)], check=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(library)
