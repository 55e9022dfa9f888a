"""Runs of pytest that leave things, hang and are killed: the plugin and the warden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.setups import until
from tests.deadline import DEADLINE

ROOT = Path(__file__).resolve().parent.parent

HANGING = """
import json, os, subprocess, sys
from pathlib import Path
from tests.cli.setups import Server, output, until, write_spec
from tests.warden import BACKING, living_descendants

def test_of_a_service_that_hangs(tmp_path):
    spec = write_spec(tmp_path / "endless.toml", steps=10**9)
    server = Server(tmp_path / "state")
    server.start()
    output("submit", str(spec), "-n", "2", service=server.address)
    memory = Path(os.environ[BACKING])
    until(lambda: len(list(memory.rglob("sm_segment*"))) == 2)
    seen = {
        "pytest": os.getpid(),
        "warden": os.getppid(),
        "processes": [process.pid for process in living_descendants(os.getppid())],
        "folders": [os.environ["TMPDIR"], str(memory)],
    }
    file = Path(os.environ["SEEN"])
    file.with_suffix(".new").write_text(json.dumps(seen))
    file.with_suffix(".new").rename(file)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]):
        pass  # waits for its end, without a limit
"""

LEAVING = """
import os, subprocess, sys, tempfile
from pathlib import Path
import pytest

def sleep(*more):
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", *more], start_new_session=True
    )
    process.returncode = 0
    return process.pid

@pytest.fixture(scope="module")
def kept():
    pid = sleep("kept by the fixture")
    yield
    os.kill(pid, 9)

def test_process(kept):
    sleep("left by the test")

def test_orphan():
    code = "import subprocess as s, sys; s.Popen(sys.argv[1:], start_new_session=True)"
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)", "an orphan"]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *sleeper], check=True)

def test_memory():
    code = (
        "import mmap, os, sys, time; file = open(os.environ['SHARED'], 'w+b'); "
        "file.truncate(4096); memory = mmap.mmap(file.fileno(), 0); print('up', flush=True); "
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    process.returncode = 0

def test_file():
    Path(tempfile.gettempdir(), "temporary").touch()

def test_segment():
    Path(os.environ["OMPI_MCA_btl_sm_backing_directory"], "segment").touch()

def test_nothing(kept):
    pass
"""

# The second test checks the state that the process of a test inherits.
IGNORING = """
import signal, subprocess, sys
from pathlib import Path

def ignored():
    code = "import pathlib; print(pathlib.Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    mask = next(line for line in done.stdout.splitlines() if line.startswith("SigIgn"))
    return {n for n in (1, 2, 10, 15) if int(mask.split()[1], 16) >> (n - 1) & 1}

def test_before():
    assert ignored() == set()
    for number in (1, 2, 10, 15):
        signal.signal(number, signal.SIG_IGN)

def test_after():
    assert ignored() == set()
"""

HIDDEN = """
import importlib, sys

def test_starts_a_process():
    importlib.import_module("subprocess").run([sys.executable, "-c", ""], check=True)
"""


def pytest_command(folder: Path, program: str) -> list[str]:
    file = folder / "test_inner.py"
    file.write_text(program)
    return [
        sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir",
        str(folder), "-p", "tests.leftovers", "-p", "no:cacheprovider", "--basetemp",
        str(folder / "inner"), "-o", "leftover_grace=0.5", str(file),
    ]  # fmt: skip


def run_pytest(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        pytest_command(folder, program),
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("number", "receiver", "code"),
    [
        (signal.SIGALRM, "pytest", 1),  # as when the time of a test is up
        (signal.SIGINT, "warden", 2),
        (signal.SIGINT, "group", 2),  # Ctrl-C
        (signal.SIGTERM, "warden", 143),
        (signal.SIGTERM, "group", 143),
        (signal.SIGKILL, "pytest", 137),
        (signal.SIGKILL, "warden", -9),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_however_tests_end_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, receiver: str,
    code: int,
) -> None:  # fmt: skip
    file = tmp_path / "seen.json"
    monkeypatch.setenv("SEEN", str(file))
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            pytest_command(tmp_path, HANGING), cwd=ROOT, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        until(lambda: file.exists() or process.poll() is not None)
        assert file.exists(), (tmp_path / "output").read_text()
        seen: dict[str, Any] = json.loads(file.read_text())
        assert seen["warden"] == process.pid
        assert len(seen["processes"]) >= 6  # pytest, service, supervisor, mpirun, ranks, link

        if receiver == "group":
            os.killpg(process.pid, number)
        else:
            os.kill(seen[receiver], number)

        assert process.wait(DEADLINE) == code, (tmp_path / "output").read_text()
    until(lambda: not running(seen["pytest"]))
    assert [pid for pid in seen["processes"] if running(pid)] == []
    assert [path for path in seen["folders"] if Path(path).exists()] == []


def test_a_test_that_leaves_something_fails_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Path(f"/dev/shm/dbp-test-of-leftovers-{os.getpid()}")  # as MPICH's, in no folder
    monkeypatch.setenv("SHARED", str(shared))

    done = run_pytest(tmp_path, LEAVING)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    left = {
        line.split("::")[1].split(" ")[0]: line for line in lines if line.startswith("ERROR")
    }
    assert list(left) == [
        "test_process",
        "test_orphan",
        "test_memory",
        "test_file",
        "test_segment",
    ]
    found = [line for line in lines if line.startswith("left behind, and removed now: ")]
    for line, expected in zip(
        found,
        ["left by the test", "an orphan", "time.sleep(600)", "/temporary", "/segment"],
        strict=True,
    ):
        assert line.endswith(expected)
    assert "6 passed, 5 errors" in lines[-1]
    assert not shared.exists()


def test_a_test_without_the_marker_may_not_start_processes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, HIDDEN)

    assert done.returncode == 1
    assert "give its module `pytestmark = pytest.mark.processes`" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_of_tests_ignore_no_signal_whatever_tests_and_shells_ignore(
    tmp_path: Path,
) -> None:
    ignore = "import os, signal, sys; [signal.signal(n, signal.SIG_IGN) for n in (1, 2)]; "
    command = [sys.executable, "-c", f"{ignore}os.execv(sys.argv[1], sys.argv[1:])"]

    done = subprocess.run(
        [*command, *pytest_command(tmp_path, IGNORING)],
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert "2 passed" in done.stdout, done.stdout
