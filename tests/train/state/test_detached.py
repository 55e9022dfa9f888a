"""Writing in a process that outlives this one; the tests fork in processes of their own."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dbp.parallel.communicator import SoloCommunicator
from dbp.train.report.sink import Command
from dbp.train.state.detached import run_detached
from dbp.train.trainer import Trainer
from tests.train.setups import AskAt, make_setup
from tests.train.test_resume import data, spec_of

WAITS = """
import sys, time
from pathlib import Path
from dbp.train.state.detached import run_detached

def write():
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
    Path(sys.argv[1], "written").write_text("whole")

print("ready", flush=True)
run_detached(write)
print("waited", flush=True)
"""


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit, path
        time.sleep(0.01)


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(folder)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)  # for the fork; it is not visible from here
    return process


def test_writing_continues_when_the_process_and_its_group_are_killed(tmp_path: Path) -> None:
    process = start(tmp_path)

    try:
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        output, _ = process.communicate(timeout=60)  # the writer holds no pipe open
        assert not (tmp_path / "written").exists()
        (tmp_path / "go").touch()

    assert "waited" not in output
    wait_for(tmp_path / "written")


def test_the_caller_waits_until_all_is_written(tmp_path: Path) -> None:
    process = start(tmp_path)
    (tmp_path / "go").touch()

    output, _ = process.communicate(timeout=60)

    assert (process.returncode, output) == (0, "waited\n")
    assert (tmp_path / "written").read_text() == "whole"


def test_a_failure_in_the_forked_process_is_returned(tmp_path: Path) -> None:
    def fails() -> None:
        raise OSError("no space left")

    assert not run_detached(fails)
    assert run_detached((tmp_path / "file").touch)
    assert (tmp_path / "file").exists()


def checkpoint_after(folder: Path, *, detach: bool) -> dict[str, str]:
    """The digest of each file of the checkpoint at which a run is stopped."""
    trainer = Trainer(
        make_setup(spec_of(), data()),
        SoloCommunicator(),
        control=AskAt(7, Command.STOP),
        checkpoints=folder,
        detach=detach,
    )
    assert trainer.run().status == "stopped"
    newest = max(folder.glob("step-*"))
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in newest.iterdir()
        if path.suffix == ".safetensors"
    }


def test_a_detached_checkpoint_holds_the_same_bytes(tmp_path: Path) -> None:
    detached = checkpoint_after(tmp_path / "detached", detach=True)

    assert len(detached) == 2
    assert detached == checkpoint_after(tmp_path / "own", detach=False)
