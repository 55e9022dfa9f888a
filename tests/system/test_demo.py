"""`dbp demo`, for real: what it shows, in which order, and that nothing is left of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.setups import DBP, environment, until

STEPS = (
    r"1\. control service +127\.0\.0\.1:\d+",
    r"2\. job +(?P<job>\S+), 2 workers",
    r"3\. training +live",
    r" +`dbp params \S+` in another process, the job being RUNNING:",
    r" +(?P<again>\S+): version \d+, step [\d,]+, sha256 [0-9a-f]{16}",
    r" +0\.weight +\d+ x \d+ +float32 ",
    r"\S+ SUCCEEDED",
    r"4\. \S+ +SUCCEEDED",
    r"5\. test accuracy +(?P<accuracy>[\d.]+) on 360 images never trained on",
    r"6\. stopped +the service; no process, no port, no file is left \([\d.]+ s in all\)",
)


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the demo may write; short, for MPI keeps sockets there."""
    folder = tmp_path / "t"
    folder.mkdir()
    yield folder
    for process in of(folder):  # not for a demo that works
        process.kill()


def of(folder: Path) -> list[psutil.Process]:
    """Every process with the folder in its command or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(process)
    return found


def left_in(folder: Path) -> list[str]:
    """What a demo has left of its own; MPI's session folders are MPI's."""
    return [path.name for path in folder.iterdir() if path.name.startswith("dbp-demo-")]


def demo(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DBP, "demo"], env=environment(TMPDIR=str(folder)), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_it_shows_everything_in_order_and_leaves_nothing(temporary: Path) -> None:
    process = demo(temporary)
    text, errors = process.communicate(timeout=150)

    assert (process.returncode, errors) == (0, ""), text
    found: dict[str, str] = {}
    place = 0
    for step in STEPS:
        match = re.compile(rf"^{step}", re.MULTILINE).search(text, place)
        assert match, f"no {step!r} behind\n{text[:place]}\nin\n{text}"
        found |= match.groupdict()
        place = match.end()
    assert found["again"] == found["job"]
    assert float(found["accuracy"]) >= 0.96
    assert left_in(temporary) == []
    assert of(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("line", ["1. ", "epoch "], ids=["at the start", "in mid-training"])
def test_interrupted_it_leaves_nothing_either(
    temporary: Path, number: signal.Signals, line: str
) -> None:
    process = demo(temporary)
    assert process.stdout is not None
    shown = next((text for text in process.stdout if text.startswith(line)), "")
    assert shown, process.communicate()[1]

    os.killpg(process.pid, number)  # as a terminal does
    _, errors = process.communicate(timeout=60)

    assert process.returncode in ((130,) if number is signal.SIGINT else (130, 143))
    assert "Traceback" not in errors
    assert left_in(temporary) == []
    until(lambda: of(temporary) == [], 5)
