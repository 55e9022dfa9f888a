"""The link as a process: how it ends by an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dbp.link.messages import LaunchedRun, TrainingStarted, encode
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

CONFIG = LaunchedRun("/no/service.json", "digits-1", 1, 1, "s", speaks_of_flags=False)
BROKEN = """
import sys
import dbp.link.session
from dbp.link.process import main

async def attach(self):
    raise RuntimeError("a programming\\nerror")

dbp.link.session.Link._attach = attach
sys.exit(main(0))
"""


def run(program: str, *lines: bytes) -> tuple[int, str]:
    """Exit code and stderr of a link whose standard input stays open."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"".join(lines))
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=reader, capture_output=True, text=True,
            timeout=DEADLINE,
        )  # fmt: skip
    finally:
        os.close(reader)
        os.close(writer)
    return done.returncode, done.stderr


def test_an_unforeseen_error_is_one_line_of_the_log_and_an_exit_code() -> None:
    code, errors = run(BROKEN, encode(CONFIG), encode(TrainingStarted(1, 9)))

    assert code == 1
    (line,) = errors.splitlines()
    assert line.startswith(
        "dbp link: ended by an unforeseen error: RuntimeError: a programming error ("
    )
    assert "session.py, line" in line


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (encode(TrainingStarted(1, 9)), "TypeError: TrainingStarted: the link is not config"),
        (b"no JSON\n", "JSONDecodeError: "),
    ],
)
def test_a_link_without_a_configuration_ends_with_an_error(first: bytes, text: str) -> None:
    code, errors = run(
        "import sys; from dbp.link.process import main; sys.exit(main(0))", first
    )

    assert code == 1
    (line,) = errors.splitlines()
    assert line.startswith(f"dbp link: ended by an unforeseen error: {text}")
