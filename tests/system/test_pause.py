"""Jobs of a real service that are paused, resumed, retried and deleted, between its kills."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.errors import NotFound, Unavailable, WrongState
from dbp.job.state import Job, State
from tests.cli.setups import Server, run, until, write_spec
from tests.deadline import DEADLINE
from tests.system.test_restart import at_step, final, frozen, ranks, reached_state

STEPS = 30_000
SEED = 14


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, patience=DEADLINE) as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, bool]:
    """Step, digest and finality of the parameters of a run without any disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Server(folder / "state") as server, Client(server.address) as client:
        job = client.submit(write_spec(folder / "job.toml", steps=STEPS), workers=2)
        assert job.wait().state is State.SUCCEEDED
        return final(job)


def in_state(job: JobHandle, *states: State) -> Job:
    """Wait for one of these states; another end fails at once."""

    def reached() -> bool:
        state = reached_state(job)
        assert state in states or state is None or not state.terminal, f"it ended as {state}"
        return state in states

    until(reached)
    return job.get()


def kill(server: Server, client: Client) -> None:
    """Kill the service, and start it again; a run may not end meanwhile."""
    server.stop(signal.SIGKILL)
    with frozen(ranks(server)):
        server.start()
        until(lambda: answers(client))


def answers(client: Client) -> bool:
    """Whether the client has found the service."""
    try:
        return len(list(client.jobs())) >= 0
    except Unavailable:
        return False


@pytest.mark.timeout(600)
def test_a_job_paused_at_random_steps_ends_with_the_same_bits(
    server: Server, client: Client, tmp_path: Path, undisturbed: tuple[int, str, bool]
) -> None:
    steps = sorted(random.Random(SEED).sample(range(1, STEPS * 2 // 3), 3))
    job = client.submit(write_spec(tmp_path / "job.toml", steps=STEPS), workers=2)

    for least in steps:
        until(lambda least=least: at_step(job, least))  # type: ignore[misc]
        assert job.pause().state in (State.PAUSING, State.PAUSED)
        paused = in_state(job, State.PAUSED)
        assert not ranks(server)
        assert paused.previous_failure is None, "it stopped by itself"
        assert paused.latest_parameters is not None
        assert not paused.latest_parameters.final
        other = client.submit(write_spec(tmp_path / "short.toml", steps=20), workers=2)
        assert other.wait().state is State.SUCCEEDED, "the slots are free"
        assert job.resume().state in (State.QUEUED, State.STARTING)

    ended = job.wait()
    assert ended.state is State.SUCCEEDED
    assert ended.attempt == len(steps) + 1
    assert final(job) == undisturbed
    assert undisturbed[::2] == (STEPS, True)
    versions = [entry.version for entry in job.versions()]
    published = [version.step for version in reversed(versions)]
    assert published == sorted(published), "no step is published again"
    assert [version.final for version in versions].count(True) == 1


@pytest.mark.timeout(600)
def test_acknowledged_requests_survive_a_kill_of_the_service(
    server: Server, client: Client, tmp_path: Path, undisturbed: tuple[int, str, bool]
) -> None:
    job = client.submit(write_spec(tmp_path / "job.toml", steps=STEPS), workers=2)
    until(lambda: at_step(job, STEPS // 10))

    job.pause()
    kill(server, client)
    in_state(job, State.PAUSED)
    kill(server, client)
    assert job.get().state is State.PAUSED
    job.resume()
    kill(server, client)
    until(lambda: at_step(job, STEPS // 5))
    job.cancel()
    kill(server, client)
    in_state(job, State.CANCELLED)
    assert job.retry().state in (State.QUEUED, State.STARTING)
    kill(server, client)

    assert job.wait().state is State.SUCCEEDED
    assert final(job) == undisturbed

    folder = server.state / "jobs" / job.id
    assert folder.exists()
    job.delete()
    kill(server, client)
    with pytest.raises(NotFound, match="was deleted"):
        job.get()
    until(lambda: not folder.exists())
    assert not list((server.state / "deleted").iterdir())


@pytest.mark.full  # a short chaos run, in `make test`, does so, too
@pytest.mark.timeout(600)
def test_kills_at_random_moments_of_a_pause_lose_nothing(
    server: Server, client: Client, tmp_path: Path, undisturbed: tuple[int, str, bool]
) -> None:
    chance = random.Random(SEED)
    job = client.submit(write_spec(tmp_path / "job.toml", steps=STEPS), workers=2)
    for round_ in range(3):
        least = (round_ + 1) * STEPS // 12
        until(lambda least=least: at_step(job, least))  # type: ignore[misc]
        answered = False
        try:
            job.pause(timeout=chance.choice([0.0, 0.001, 0.01]))
            answered = True
        except Unavailable:
            pass
        kill(server, client)
        state = in_state(job, State.RUNNING, State.PAUSED).state
        assert state is State.PAUSED or not answered
        if state is State.PAUSED:
            job.resume()

    assert job.wait().state is State.SUCCEEDED
    assert final(job) == undisturbed


def test_a_run_folder_of_a_service_is_left_to_the_service(
    server: Server, client: Client, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "job.toml", steps=10**9)
    job = client.submit(spec, workers=2)
    until(lambda: at_step(job, 1))
    job.cancel()
    job.wait()
    (folder,) = {path.parent for path in server.state.rglob("metrics.jsonl")}
    link = tmp_path / "link"
    link.symlink_to(folder)

    for arguments in (
        ("train", "--resume", str(folder)),
        ("train", "--resume", str(link)),
        ("train", str(spec), "--run", str(folder), "--overwrite"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert f"belongs to job {job.id} of a service" in refused.stderr
        assert f"dbp retry {job.id}" in refused.stderr
    with pytest.raises(WrongState, match="dbp retry"):
        job.resume()


@pytest.mark.timeout(600)
def test_a_frozen_run_is_paused_by_force_and_resumed_from_its_checkpoint(
    server: Server, client: Client, tmp_path: Path, undisturbed: tuple[int, str, bool]
) -> None:
    spec = write_spec(tmp_path / "job.toml", steps=STEPS)
    spec.write_text(spec.read_text() + "[checkpoint]\nevery_steps = 50\n")
    job = client.submit(spec, workers=2)
    until(lambda: at_step(job, STEPS // 4))
    for pid in ranks(server):
        os.kill(pid, signal.SIGSTOP)

    job.pause(grace_seconds=1.0)

    paused = in_state(job, State.PAUSED)
    assert paused.previous_failure is not None
    assert paused.previous_failure.reason == "FORCED"
    assert paused.previous_failure.checkpoint_step % 50 == 0
    assert paused.checkpoint_step >= STEPS // 4 - 50
    until(lambda: not ranks(server))
    job.resume()
    assert job.wait().state is State.SUCCEEDED
    assert final(job)[:2] == undisturbed[:2]
