from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbp.lossy_output import LossyFile

WRITER = """
import sys
from dbp.lossy_output import make_output_lossy

make_output_lossy()
for line in range(2000):
    print("output", line)
    print("error", line, file=sys.stderr)
open(sys.argv[1], "w").write(f"{sys.stdout.isatty()} {sys.stdout.fileno()}")
"""


def test_output_with_a_reader_arrives_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "done")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"output {n}" for n in range(2000)]
    assert done.stderr.splitlines() == [f"error {n}" for n in range(2000)]
    assert (tmp_path / "done").read_text() == "False 1"


@pytest.mark.parametrize(
    ("redirection", "stderr"),
    [
        ("| head -n 1", None),
        ("> /dev/full", "warning: standard output cannot be written: No space left on device"),
        (">&-", None),
        ("2>/dev/full", None),
        ("2>&-", None),
        (">/dev/full 2>/dev/full", None),
        (">&- 2>&- <&-", None),
    ],
)
def test_output_without_a_reader_does_not_end_the_process(
    tmp_path: Path, redirection: str, stderr: str | None
) -> None:
    script = f'"$0" -c "$1" "$2" {redirection}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, WRITER, str(tmp_path / "done")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").read_text() == "False 1"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if stderr is not None:
        assert done.stderr.splitlines().count(stderr) == 1


def test_output_continues_when_there_is_space_again(tmp_path: Path) -> None:
    full, log = os.open("/dev/full", os.O_WRONLY), tmp_path / "log"
    file = LossyFile(full)
    assert file.write(b"lost") == 4

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), full)
    assert file.write(b"kept") == 4

    assert log.read_bytes() == b"kept"
    os.close(full)


def test_a_descriptor_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, bytes(65536))  # the pipe is full
    with (tmp_path / "taken").open("wb") as taken:
        child = subprocess.Popen(["cat"], stdin=reader, stdout=taken)
    os.close(reader)

    LossyFile(writer).write(b"x" * 200_000)
    os.close(writer)

    assert child.wait(timeout=30) == 0
    assert (tmp_path / "taken").stat().st_size == 265_536
