"""A small disk for tests of full disks: a tmpfs, which needs the right to mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import final

import pytest

FILLER = ".filler"


def mount(*arguments: str) -> bool:
    """Return whether the mount worked."""
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@final
class SmallDisk:
    """A mounted disk that a test fills and frees."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no free byte."""
        self._take()
        assert os.statvfs(self.path).f_bavail == 0

    def _take(self) -> None:
        with (self.path / FILLER).open("ab") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(4096))

    @contextlib.contextmanager
    def kept_full(self) -> Iterator[None]:
        """Take freed space at once, until the end of the block."""
        stop = threading.Event()

        def fill() -> None:
            while not stop.wait(0.005):
                self._take()

        self.fill()
        thread = threading.Thread(target=fill)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.free()

    def free(self) -> None:
        """Free the space that ``fill`` took."""
        (self.path / FILLER).unlink(missing_ok=True)

    def resize(self, size: str) -> None:
        """Change the size, such as ``4m``."""
        assert mount("-o", f"remount,size={size}", str(self.path))


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a disk of this size at ``path``; skip the test where that is not allowed."""
    path.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
