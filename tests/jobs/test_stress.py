"""Many clients, runs, cancellations and full disks at once, from seeds: nothing is lost.

Commits are slow or fail at random; clients go away at random. Every acknowledged
change is durable after a restart, and each watcher receives one unbroken sequence of events.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pytest

from dbp.errors import DbpError
from dbp.job.state import ProgressReport, State
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.watch_items import Change, End, JobStatus, WatchItem
from dbp.launch.launcher import Exit
from dbp.versions.index import At
from tests.deadline import DEADLINE
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, data, manifest, settle, spec
from tests.storage.slow_commits import SlowCommits

SLOTS: Final = 5
SEEDS: Final = range(5)


@dataclass
class Acknowledged:
    """Changes acknowledged to callers; numbers of versions by job.

    ``shown``: the last event that the status of a job included, by job.
    """

    jobs: list[str] = field(default_factory=list)
    versions: dict[str, set[int]] = field(default_factory=dict)
    labels: dict[tuple[str, str], int] = field(default_factory=dict)
    pins: dict[str, set[int]] = field(default_factory=dict)
    ended: dict[str, State] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)


class Stress:
    """Clients and runs that act at random in one life of a control plane."""

    def __init__(self, plane: Plane, chance: random.Random, known: Acknowledged) -> None:
        self.plane, self.chance, self.known = plane, chance, known

    async def client(self, number: int, acts: int) -> None:
        """Create jobs, cancel some, move a label of its own, pin, go away at times."""
        for _ in range(acts):
            act = self.chance.choice(
                [
                    self._create,
                    self._create,
                    self._cancel,
                    self._end,
                    self._label,
                    self._label,
                    self._label,
                    self._pin,
                ]
            )
            await self._perhaps_gone(act(number))

    async def _perhaps_gone(self, call: Coroutine[Any, Any, None]) -> None:
        calling = asyncio.create_task(call)
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.random() * 0.01)
            calling.cancel()
        with contextlib.suppress(DbpError, asyncio.CancelledError):
            await calling

    def _some(self) -> str | None:
        """Return any job, most often one that has published."""
        published = list(self.known.versions)
        jobs = published if published and self.chance.random() < 0.8 else self.known.jobs
        return self.chance.choice(jobs) if jobs else None

    async def _create(self, number: int) -> None:
        job = await self.plane.manager.create(
            spec(f"n{number}", publish={"keep": 1}), workers=self.chance.randint(1, 3)
        )
        self.known.jobs.append(job.id)

    async def _cancel(self, number: int) -> None:
        if (job_id := self._some()) is not None:
            await self.plane.manager.cancel(job_id, force=self.chance.random() < 0.5)

    async def _label(self, number: int) -> None:
        if (job_id := self._some()) is None:
            return
        label = f"l{number}"  # no other client moves it
        self.known.labels.pop((job_id, label), None)  # unknown if the caller goes away
        move = await self.plane.manager.parameters.move_label(job_id, label, At())
        self.known.labels[job_id, label] = move.version

    async def _pin(self, number: int) -> None:
        if (job_id := self._some()) is not None:
            entry = await self.plane.manager.parameters.pin(job_id, At(), pinned=True)
            self.known.pins.setdefault(job_id, set()).add(entry.version.version)

    async def _end(self, number: int) -> None:
        """End a run, with a result or without."""
        running = list(self.plane.launcher.runs.values())
        if running:
            run = self.chance.choice(running)
            if self.chance.random() < 0.5:
                run.write_result("succeeded")
            run.end(Exit(exit_code=self.chance.choice([0, 1])))

    async def runs(self, done: asyncio.Event) -> None:
        """Attach, report and publish as the ranks of started jobs would."""
        step = 0
        while not done.is_set():
            for job_id in list(self.plane.launcher.runs):
                step += 1
                await self._perhaps_gone(self._report(job_id, step))
            await asyncio.sleep(0.001)

    async def _report(self, job_id: str, step: int) -> None:
        manager = self.plane.manager
        job = await manager.get(job_id)
        if job.state.terminal:
            return
        await manager.attached(
            job_id, LinkNumber(1), world_size=job.workers, host="h", total_steps=9
        )
        report = ProgressReport(step, 100, 1, 0.5, {}, 1.0, None, 0.0)
        await manager.reports.progress(job_id, 1, report)
        version = await manager.publisher.publish(
            job_id, 1, step=step, manifest=manifest(), chunks=data(fill=step)
        )
        self.known.versions.setdefault(job_id, set()).add(version.version)

    async def watch(self, seen: list[Change], tokens: list[int]) -> None:
        """Watch all jobs; break off and resume at random."""
        token = tokens[-1] if tokens else None
        while True:
            items, opening = self.plane.manager.watch(None, token), token is None
            async with contextlib.aclosing(cast("AsyncGenerator[WatchItem]", items)):
                async for item in items:
                    if opening and isinstance(item, JobStatus):  # instead of earlier events
                        self.known.shown[item.job.id] = item.job.sequence
                        opening = not item.resume  # later ones show conditions
                    if isinstance(item, Change):
                        seen.append(item)
                    if isinstance(item, End):
                        return
                    if item.resume:
                        tokens.append(token := item.resume)
                        if self.chance.random() < 0.1:
                            break

    async def disk(self, slow: SlowCommits, done: asyncio.Event) -> None:
        """Fail and delay commits at random."""
        while not done.is_set():
            slow.seconds = self.chance.choice([0.0, 0.001, 0.004])
            self._full(self.chance.random() < 0.2)
            await asyncio.sleep(0.01)
        self._full(False)

    def _full(self, full: bool) -> None:
        writer = self.plane.database._writer
        self.plane.database._writing.submit(
            writer.execute, f"PRAGMA query_only = {'ON' if full else 'OFF'}"
        )


async def one_life(
    path: Path, chance: random.Random, slow: SlowCommits, known: Acknowledged,
    seen: list[Change], tokens: list[int],
) -> None:  # fmt: skip
    async with control_plane(path, FakeLauncher(), slots=SLOTS) as plane:
        plane.manager._events._recent = deque(maxlen=4)  # so that watchers read the store, too
        stress, done = Stress(plane, chance, known), asyncio.Event()
        watching = asyncio.create_task(stress.watch(seen, tokens))
        others = [
            asyncio.create_task(stress.runs(done)),
            asyncio.create_task(stress.disk(slow, done)),
        ]
        try:
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(stress.client(number, 20) for number in range(8)))
            await check(plane, known)
        finally:
            done.set()  # the others cannot be cancelled
        await asyncio.gather(*others)
        await check_slots(plane)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.02)  # else it shuts down at once
        closing = asyncio.create_task(plane.manager.close())
        await asyncio.gather(closing, watching)


async def check(plane: Plane, known: Acknowledged) -> None:
    """Every acknowledged change is there."""
    for job_id in known.jobs:
        job = await plane.manager.get(job_id)
        if job.state.terminal:
            assert known.ended.setdefault(job_id, job.state) is job.state
        else:
            assert job_id not in known.ended
        published = set(known.versions.get(job_id, ()))  # runs publish more meanwhile
        entries, _ = await plane.manager.parameters.history(job_id, 1000, "")
        index = await plane.store.versions(job_id)
        assert {e.version.version for e in entries} >= published
        assert index.pinned >= known.pins.get(job_id, set())
        assert all(index.keeps(number) for number in {*index.pinned, *index.labels.values()})
        for number in {*index.pinned, *index.labels.values()}:
            with await plane.manager.versions.open(job_id, At(number)) as opened:
                assert opened.version.version == number
    for (job_id, label), version in dict(known.labels).items():
        assert (await plane.store.versions(job_id)).labels[label] == version


async def check_slots(plane: Plane) -> None:
    """Each live job waits or holds its slots, and no other job does."""
    await settle()
    live, queue = await plane.store.live(), plane.manager._queue
    assert {*queue._waiting} == {job.id for job in live if job.state is State.QUEUED}
    assert queue._holding == {
        job.id: job.workers for job in live if job.state is not State.QUEUED
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance, known, slow = random.Random(seed), Acknowledged(), SlowCommits(monkeypatch)
    seen: list[Change] = []
    tokens: list[int] = []
    for _ in range(3):
        await one_life(tmp_path / "state", chance, slow, known, seen, tokens)

    slow.seconds = 0.0
    async with control_plane(tmp_path / "state", FakeLauncher(), slots=SLOTS) as plane:
        await check(plane, known)
        watching = asyncio.create_task(Stress(plane, chance, known).watch(seen, tokens))
        for _ in range(1_000):
            if not await plane.store.live():
                break
            for run in list(plane.launcher.runs.values()):
                run.end(Exit(exit_code=1))
            await plane.clock.advance(100.0)
        await settle()
        assert not plane.manager._queue._waiting
        assert plane.manager._queue.free == SLOTS
        events = await plane.store.events_after(0, limit=100_000)
        await plane.manager.close()
        await watching
    sequences = [change.sequence for change in events]
    assert sequences == list(range(1, len(sequences) + 1))
    sent = [c.sequence for c in events if c.sequence > known.shown.get(c.job.id, 0)]
    assert [change.sequence for change in seen] == sent
    ended: set[str] = set()
    for change in events:
        state_event = change.kind not in ("label_moved", "version_pinned", "version_unpinned")
        assert not (change.job.id in ended and state_event)
        if change.job.state.terminal:
            ended.add(change.job.id)
