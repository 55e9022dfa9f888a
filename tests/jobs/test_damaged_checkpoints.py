"""An attempt that passes over damaged checkpoints says so, in the job and as an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.errors import WrongState
from dbp.job.state import EventKind, Job, State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, settle, spec, until
from tests.jobs.runs import attach, ended

DAMAGE = tuple(f"/checkpoints/step-{n}/position.json: damaged" for n in range(5))
RETRIED = {"attempts": 3, "backoff_seconds": 0.0}


async def killed(plane: Plane, job: Job) -> None:
    """A rank of the job's attempt is killed, and its next attempt is launched."""
    attempt = (await plane.manager.get(job.id)).attempt
    plane.launcher.runs[job.id].end(Exit(exit_code=137))

    async def again() -> bool:
        await plane.clock.advance(1.0)
        return len(plane.launcher.requests) > attempt

    await until(again)
    await settle()


@pytest.mark.parametrize(
    ("step", "way"), [(0, "starts again at step 1"), (40, "continues after step 40")]
)
async def test_the_job_and_an_event_name_the_damaged_checkpoints(
    tmp_path: Path, step: int, way: str
) -> None:
    launcher = FakeLauncher(damaged=DAMAGE)
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(retry=RETRIED), workers=1)
        await settle()
        launcher.checkpoints[job.id] = step
        await attach(plane, job)

        await killed(plane, job)

        note = f"checkpoints are damaged: attempt 2 {way} ({'; '.join(DAMAGE[:3])}; and 2 more)"
        started, damaged = (await plane.store.events_after(0))[-2:]
        assert (started.kind, started.job.notes) == (EventKind.STARTED, ())
        assert (damaged.kind, damaged.job.notes) == (EventKind.CHECKPOINTS_DAMAGED, (note,))
        assert (await plane.manager.get(job.id)).state is State.STARTING
        assert len(plane.launcher.requests) == 2


async def test_only_the_newest_note_on_damage_is_kept(tmp_path: Path) -> None:
    launcher = FakeLauncher(damaged=DAMAGE[:1])
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(retry=RETRIED), workers=1)
        await settle()
        for _ in range(2):
            await killed(plane, job)

        (note,) = (await plane.manager.get(job.id)).notes
    assert "attempt 3 starts again" in note


async def test_a_job_with_sound_checkpoints_has_no_note(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(retry=RETRIED), workers=1)
        await settle()
        plane.launcher.checkpoints[job.id] = 40
        await attach(plane, job)
        await killed(plane, job)

        assert (await plane.manager.get(job.id)).notes == ()


async def test_a_retry_of_a_job_without_a_sound_checkpoint_names_the_damage(
    tmp_path: Path,
) -> None:
    launcher = FakeLauncher(damaged=DAMAGE[:1])
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        plane.launcher.runs[job.id].end(Exit(exit_code=137))
        await ended(plane, job.id)

        with pytest.raises(WrongState, match=r"no sound checkpoint .*step-0/position.json"):
            await plane.manager.lifecycle.retry(job.id)
