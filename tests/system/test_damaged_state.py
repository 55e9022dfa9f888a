"""A service whose database is damaged, or whose state folder is deleted, under real jobs."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.errors import Unavailable
from dbp.job.state import State
from tests.cli.setups import Server, run, until, write_spec
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes


def at_step(job: JobHandle, least: int) -> bool:
    progress = job.get().progress
    return progress is not None and progress.step >= least


def digest(job: JobHandle) -> str:
    found = job.parameters()
    assert found is not None
    return found.version.digest


def test_damage_is_refused_and_a_recovery_brings_everything_back(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Server(state) as server, Client(server.address, patience=DEADLINE) as client:
        done = client.submit(write_spec(tmp_path / "a.toml", steps=50), workers=2)
        assert done.wait().state is State.SUCCEEDED
        published = digest(done)
        training = client.submit(write_spec(tmp_path / "b.toml", steps=200_000), workers=2)
        waiting = client.submit(write_spec(tmp_path / "c.toml", steps=50), workers=2)
        until(lambda: at_step(training, 1))
        server.stop(signal.SIGKILL)
        log = state / "dbp.sqlite-wal"
        with log.open("r+b") as file:
            file.truncate(log.stat().st_size // 2)

        refused = run("serve", "--port", "0", "--state", str(state))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"dbp serve --recover --state {state}" in refused.stderr
        server._options = ("--recover",)
        server.start()

        text = state.with_suffix(".log").read_text()
        assert "rebuilt: 3 jobs with" in text
        assert f"kept: {state / 'dbp.sqlite.damaged-1'}" in text
        ids = [waiting.id, training.id, done.id]
        assert [job.id for job in client.jobs()] == ids
        assert (done.get().state, digest(done)) == (State.SUCCEEDED, published)
        until(lambda: at_step(training, 1))
        training.cancel()
        assert training.wait().state is State.CANCELLED
        assert waiting.wait().state is State.SUCCEEDED


def test_a_deleted_state_folder_ends_the_service_and_its_runs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Server(state) as server:
        with Client(server.address, patience=0.0) as client:
            job = client.submit(write_spec(tmp_path / "a.toml", steps=200_000), workers=2)
            until(lambda: at_step(job, 1))
            assert server.processes()

            state.rename(tmp_path / "moved")  # at once, where rmtree meets new files
            shutil.rmtree(tmp_path / "moved", ignore_errors=True)
            with pytest.raises(Unavailable):
                list(client.jobs())

        process, server._process = server._process, None
        assert process is not None
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 1
        text = state.with_suffix(".log").read_text()
        assert f"{state}: the state folder was deleted or replaced" in text
        until(lambda: not server.processes())
        assert not state.exists()
