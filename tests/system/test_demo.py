"""`dbp demo` as a newcomer starts it: its output, in order, and that nothing is left."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import psutil
import pytest

from dbp.cli.demo import LEAST_ACCURACY
from tests.deadline import DEADLINE, until

COMMAND = [sys.executable, "-m", "dbp", "demo"]

ORDER = (
    r"^1\. control service +127\.0\.0\.1:(\d+)$",
    r"^2\. job +(digits-\w+), 2 workers$",
    r"^3\. training ",
    r"RUNNING",
    r"^epoch \d+, step [\d,]+/24,600, training_loss [\d.e-]+, validation_accuracy [\d.]+, ",
    r"^   `dbp params digits-\w+` in another process, the job being RUNNING:$",
    r"^     digits-\w+: version \d+, step [\d,]+, sha256 [0-9a-f]{16}$",
    r"^     TENSOR +SHAPE +TYPE +NORM$",
    r"^     0\.weight +128 x 64 +float32 +[\d.]+$",
    r"^     0\.bias +128 +float32 +[\d.]+$",
    r"^     2\.weight +64 x 128 +float32 +[\d.]+$",
    r"^     2\.bias +64 +float32 +[\d.]+$",
    r"^     4\.weight +10 x 64 +float32 +[\d.]+$",
    r"^     4\.bias +10 +float32 +[\d.]+$",
    r"^4\. digits-\w+ +(?:stopped on request|SUCCEEDED)$",  # where it is very fast
    r"^5\. test accuracy +(0\.\d+|1\.0+) on 360 images .* without MPI$",
    r"^6\. stopped .* no process, no port, no file is left \(([\d.]+) s in all\)$",
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the demo keeps its state; afterwards empty, and known to no process."""
    yield tmp_path
    assert list(tmp_path.glob("dbp-demo-*")) == []
    assert processes_of(tmp_path) == []


def processes_of(folder: Path, word: str = "") -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if any(f"{folder}/dbp-demo-" in w for w in words) and word in " ".join(words):
                found.append(process)
    return found


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DBP_")}
    return {**kept, "TMPDIR": str(folder)}


@contextlib.contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        COMMAND, env=environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()  # it cleans up; nothing happens if it has ended
            process.wait(DEADLINE)


def lines_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    seen = ""
    while word not in seen:
        line = process.stdout.readline()
        assert line, f"ended before {word!r}: {seen}"
        seen += line
    return seen


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_of(text: str) -> int:
    found = re.search(ORDER[0], text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_demo_shows_everything_in_order_and_leaves_nothing(folder: Path) -> None:
    done = subprocess.run(
        COMMAND, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    place, found = 0, []
    for pattern in ORDER:
        match = re.compile(pattern, re.MULTILINE).search(done.stdout, place)
        assert match is not None, f"{pattern}\nis not after\n{done.stdout[:place]}"
        place = match.end()
        found.append(match)
    assert float(found[-2][1]) >= LEAST_ACCURACY
    assert not listens(int(found[0][1]))


@pytest.mark.full
def test_the_demo_shows_everything_beside_busy_loops(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.busy", *COMMAND], env=environment(folder),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for pattern in ORDER:
        assert re.search(pattern, done.stdout, re.MULTILINE), f"{pattern}\n{done.stdout}"


@pytest.mark.timeout(400)  # the run alone takes 15 s, and all that starts before it its time
def test_a_model_that_is_not_good_at_the_end_of_its_time_fails_the_demo(
    folder: Path, tmp_path: Path
) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    text = files("dbp.cli").joinpath("digits.toml").read_text()
    text = text.replace("peak = 2e-3", "peak = 1e-9").replace("seconds = 120", "seconds = 15")
    (specs / "digits.toml").write_text(text)
    program = (
        "import pathlib, sys, dbp.cli.demo as demo\n"
        "from dbp.cli.main import main\n"
        "specs = pathlib.Path(sys.argv.pop())\n"
        "demo.files = lambda package: specs\n"
        "sys.exit(main())\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, "demo", str(specs)], env=environment(folder),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * DEADLINE,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^5\. test accuracy +0\.\d+ on", done.stdout, re.MULTILINE)
    assert "is below 0.96 after epoch " in done.stderr
    assert "dbp demo --workers 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_on_a_terminal_the_bar_is_live_and_the_parameters_are_seen(folder: Path) -> None:
    output = on_a_terminal(COMMAND, environment(folder))

    assert output.count("validation_accuracy") > 10  # drawn again and again
    assert "\x1b[2K" in output
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", output).replace("\r", "\n")
    for pattern in (ORDER[0], ORDER[1], ORDER[6], ORDER[9], ORDER[-2], ORDER[-1]):
        assert re.search(pattern, plain, re.MULTILINE), f"{pattern}\nis not in\n{plain}"


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Return the output of a command to a terminal of 160 columns; it must succeed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env={**environment, "TERM": "xterm", "COLUMNS": "160"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # the terminal is gone with its last writer
        while part := os.read(ours, 65536):
            output += part
    os.close(ours)
    text = output.decode()
    assert process.wait(DEADLINE) == 0, text
    return text


def test_a_job_that_breaks_is_shown_with_its_log_and_cleaned_up(folder: Path) -> None:
    with started(folder) as process:
        port = port_of(lines_until(process, "epoch"))
        ranks = processes_of(folder, "dbp.worker")
        assert ranks

        def ended() -> bool:  # every attempt is killed, until the job is given up
            for rank in processes_of(folder, "dbp.worker"):
                with contextlib.suppress(psutil.Error):
                    rank.kill()
            return process.poll() is not None

        until(ended)
        output, errors = process.communicate(timeout=DEADLINE)

        assert process.returncode == 1, output
        assert "FAILED" in errors
        assert "SIGKILL" in errors
        assert "SUCCEEDED" not in output
        assert not listens(port)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_demo_takes_everything_with_it(
    folder: Path, number: signal.Signals, code: int
) -> None:
    with started(folder) as process:
        port = port_of(lines_until(process, "epoch"))
        assert processes_of(folder, "dbp.worker")

        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE)

        assert process.returncode == code
        assert errors.strip() == ""
        assert not listens(port)


def test_a_service_that_dies_leaves_no_training(folder: Path) -> None:
    with started(folder) as process:
        port = port_of(lines_until(process, "epoch"))
        until(lambda: processes_of(folder, "dbp.worker"))

        for service in processes_of(folder, "dbp serve"):
            service.kill()
        _, errors = process.communicate(timeout=DEADLINE)

        assert process.returncode == 3
        assert "the service cannot be reached" in errors
        assert not listens(port)
