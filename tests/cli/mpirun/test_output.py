"""Copying output, in a process of its own: its stdout and stderr are the ones written to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FULL = Path("/dev/full")
SCRIPT = """
import os, sys
from dbp.cli.mpirun.output import RankOutput

out, out_end = os.pipe()
err, err_end = os.pipe()
signals, _ = os.pipe()
child = os.fork()
if child == 0:
    os.dup2(out_end, 1)
    os.dup2(err_end, 2)
    exec(sys.argv[1])
    os._exit(0)
os.close(out_end)
os.close(err_end)
output = RankOutput(out, err)
while not output.is_finished():
    output.copy(signals, None)
code = output.finish(int(sys.argv[2]))
output.show_cursor()
output.flush()
os.waitpid(child, 0)
sys.exit(code)
"""

EXIT_NOTICE = "-" * 74 + "\nprterun detected a non-zero exit code\n" + "-" * 74 + "\n"


def copy(writes: str, code: int = 0, **streams: int) -> subprocess.CompletedProcess[bytes]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    command = [sys.executable, "-c", SCRIPT, writes, str(code)]
    return subprocess.run(command, timeout=60, check=False, **pipes)  # type: ignore[call-overload,no-any-return]


def test_both_streams_pass_unchanged_whatever_their_size() -> None:
    done = copy("""
for i in range(300):
    os.write(1, b"out %d " % i + b"x" * 10000 + b"\\n")
    os.write(2, b"err %d\\n" % i)
""")

    assert len(done.stdout.splitlines()) == 300
    assert len(done.stdout) == sum(len(f"out {i} ") + 10001 for i in range(300))
    assert done.stderr.decode() == "".join(f"err {i}\n" for i in range(300))


def test_a_reader_that_has_gone_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = copy("os.write(1, b'lost' * 100000); os.write(2, b'kept')", stdout=writer)
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, b"kept")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_disk_is_reported_once() -> None:
    with FULL.open("wb") as full:
        done = copy("os.write(1, b'a' * 10); os.write(1, b'b' * 100000)", stdout=full.fileno())

    warning = b"warning: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (0, warning)


def test_a_stdout_that_does_not_block_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [sys.executable, "-c", SCRIPT, "os.write(1, b'x' * 500000)", "0"]
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    time.sleep(0.5)  # the pipe is full by now
    with os.fdopen(reader, "rb") as pipe:
        assert len(pipe.read()) == 500_000

    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("code", "report", "shown"),
    [
        (75, "", False),
        (2, "error: no such field\n", False),
        (1, "rank 1 of 2 failed:\n", False),
        (1, "", True),
        (3, "error: no such field\n", True),
    ],
)
def test_a_notice_is_shown_unless_dbp_has_reported_why(
    code: int, report: str, shown: bool
) -> None:
    done = copy(f"os.write(2, {(report + EXIT_NOTICE).encode()!r})", code)

    assert done.returncode == code
    assert done.stderr.decode() == report + (EXIT_NOTICE if shown else "")


def test_the_cursor_that_a_bar_has_hidden_is_shown_again() -> None:
    cut_off = copy("os.write(1, b'\\x1b[?25l 10%')")
    complete = copy("os.write(1, b'\\x1b[?25l 10%\\x1b[?25h')")

    assert cut_off.stdout.endswith(b"10%\x1b[?25h")
    assert complete.stdout.endswith(b"10%\x1b[?25h")
    assert complete.stdout.count(b"\x1b[?25h") == 1
