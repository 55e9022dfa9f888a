"""Logs of an attempt and of its ranks, which print at the same time, under both libraries."""

from __future__ import annotations

import os
import selectors
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.attempt_output import LINE_BYTES, AttemptOutput
from dbp.launch.mpirun import MpirunLauncher
from dbp.launch.rank_output import VARIABLE, use_own_pipe
from dbp.launching import worker_command
from tests.launch.attempts import ended, log, request
from tests.system.test_exact import MPICH, mpich_environment

pytestmark = pytest.mark.processes

LINES: Final = 300
ENDS: Final = ["rank 0 ends", "rank 1 ends"]
# Prints lines in pieces, one without an end, and one of more than a pipe holds.
TALKER: Final = f"""
import os, sys
from dbp.launch.rank_output import use_own_pipe
from dbp.launching import detect
rank = detect(os.environ).rank
use_own_pipe(rank, os.environ)
for number in range({LINES}):
    for piece in (f"rank {{rank}} ", "says ", f"{{number}}\\n"):
        os.write(1 + number % 2, piece.encode())
os.write(1, f"<{{'€' * 100_000}}{{rank}}>\\n".encode())
os.write(1, f"rank {{rank}} ends".encode())
"""


def talkers(library: str) -> Callable[[int, Sequence[str]], list[str]]:
    mpirun = MPICH / "bin" / "mpiexec" if library == "mpich" else None

    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return worker_command(workers, [sys.executable, "-c", TALKER], mpirun=mpirun)

    return command


@pytest.mark.parametrize("library", ["openmpi", "mpich"])
async def test_lines_of_ranks_are_whole_and_known_by_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    if library == "mpich":
        for name, value in mpich_environment().items():
            monkeypatch.setenv(name, value)
    wanted = request(tmp_path, workers=2)

    running = await MpirunLauncher(2, make_command=talkers(library)).start(wanted)
    record = await ended(running)

    assert record.exit_code == 0
    expected = [
        [f"rank {rank} says {number}" for number in range(LINES)]
        + [f"<{'€' * 100_000}{rank}>", f"rank {rank} ends"]
        for rank in range(2)
    ]
    files = AttemptFiles(wanted.folder)
    for rank in range(2):
        assert files.rank_log(rank).read_text().splitlines() == expected[rank]
        assert files.rank_log(rank).stat().st_mode & 0o077 == 0
    lines = log(wanted.folder).splitlines()
    short = [line for line in lines if "€" not in line and ">" not in line]
    assert sorted(short) == sorted(expected[0][:-2] + expected[1][:-2] + ENDS)
    assert log(wanted.folder).count("€") == 200_000


def test_a_line_that_does_not_end_is_kept_until_it_is_long(tmp_path: Path) -> None:
    files, selector = AttemptFiles(tmp_path), selectors.DefaultSelector()
    output = AttemptOutput(files, selector)
    writer = output.open(tmp_path, 1)
    (key,) = selector.get_map().values()
    reader = key.fd

    def written(data: bytes) -> int:
        os.write(writer, data)
        while output.copy(reader):
            pass
        return len(files.log.read_bytes())

    assert written(b"x" * 100) == 0
    assert written(b"y\nz") == 102
    assert written(b"z" * (LINE_BYTES // 2)) == 102
    assert written("€".encode() * (LINE_BYTES // 4)) > LINE_BYTES
    os.close(writer)
    output.close()

    assert files.log.read_text().endswith("€")
    os.close(reader)


def test_a_rank_of_another_host_keeps_the_output_of_mpirun(tmp_path: Path) -> None:
    use_own_pipe(0, {VARIABLE: str(tmp_path / "missing")})
    use_own_pipe(0, {})
