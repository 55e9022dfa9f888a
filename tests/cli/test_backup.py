"""`dbp backup`, `dbp restore` and `dbp admin` on a service whose job trains."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.job.state import State
from tests.cli.setups import ENDLESS, SPEC, Server, output, run, until
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes


def test_a_job_that_trains_is_backed_up_restored_and_continued(tmp_path: Path) -> None:
    job_file, target = tmp_path / "job.toml", tmp_path / "b.tar.gz"
    checkpoints = "[checkpoint]\nevery_steps = 20\n"
    job_file.write_text(
        SPEC.format(name="a", steps=ENDLESS, learning_rate="1e-3") + checkpoints
    )
    state, new = tmp_path / "state", tmp_path / "new"
    with Server(state) as server, Client(server.address, patience=DEADLINE) as client:
        job = client.submit(job_file, workers=1)
        until(lambda: (job.get().latest_parameters or 0) and any(state.rglob("step-*")))

        shown = json.loads(
            output("backup", str(target), "--state", str(state), "--output", "json")
        )
        refused = run("backup", str(target), "--state", str(state))
        inside = run("backup", str(state / "b"), "--state", str(state))
        again = run("restore", str(target), "--state", str(state))

        assert (shown["jobs"], shown["path"]) == (1, str(target))
        assert (refused.returncode, inside.returncode, again.returncode) == (4, 2, 2)
        assert "exists already" in refused.stderr
        assert "is not empty" in again.stderr
        assert job.get().state is State.RUNNING
        assert not (state / "backup").exists()
        left = output("admin", "drain", "--wait", service=server.address)
        assert "no job runs" in left
        assert job.get().state is State.QUEUED
    assert shown["sha256"] in output("restore", str(target), "--check")
    assert shown["sha256"] in output("restore", str(target), "--state", str(new))
    with Server(new) as server, Client(server.address, patience=DEADLINE) as client:
        restored = client.job(job.id)
        until(lambda: restored.get().attempt == 2 and restored.get().state is State.RUNNING)
        failure = restored.get().previous_failure
        assert failure is not None
        assert failure.reason == "RESTORED"
        assert failure.checkpoint_step >= 20
        server.stop(signal.SIGTERM)


def test_a_drain_with_a_limit_names_the_jobs_that_still_run(tmp_path: Path) -> None:
    done = run("admin", "drain", "--timeout", "1")
    assert (done.returncode, "--wait" in done.stderr) == (2, True)
    with Server(tmp_path / "state") as server, Client(server.address) as client:
        job_file = tmp_path / "job.toml"
        job_file.write_text(SPEC.format(name="a", steps=ENDLESS, learning_rate="1e-3"))
        job = client.submit(job_file, workers=1)
        until(lambda: job.get().state is State.RUNNING)

        late = run(
            "admin", "drain", "--finish", "--wait", "--timeout", "0", service=server.address
        )
        shown = output("admin", "undrain", "--output", "json", service=server.address)

        assert late.returncode == 3
        assert job.id in late.stderr
        assert "dbp cancel --force" in late.stderr
        assert json.loads(shown) == {"draining": False}
        assert job.get().state is State.RUNNING
