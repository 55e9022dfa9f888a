"""Streams over the death of the service: the same port, the same state, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dbp.client.async_client import AsyncClient
from dbp.client.async_parameters import AsyncParameters
from dbp.client.transport.patience import Patience
from dbp.client.transport.streams import JobUpdate
from dbp.errors import ClientClosed, DeadlineExceeded, NotFound, Unavailable
from dbp.job.state import Event, EventKind, State
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster
from dbp.launch.launcher import Exit
from dbp.rpc.address import parse_address
from dbp.rpc.bearer import NoListener
from dbp.storage.database import Database
from tests.deadline import DEADLINE
from tests.jobs.fakes import FakeLauncher
from tests.random_pauses import as_long_as_allowed
from tests.service.setups import document, serving, tensors, until


class Seen:
    """The updates of a watch, in order."""

    def __init__(self, updates: AsyncIterator[JobUpdate]) -> None:
        self.kinds: list[str] = []
        self.states: list[str] = []
        self._task = asyncio.create_task(self._follow(updates))

    async def _follow(self, updates: AsyncIterator[JobUpdate]) -> None:
        async for update in updates:
            self.kinds.append(update.kind)
            if update.job is not None:
                self.states.append(update.job.state.value)

    async def end(self) -> None:
        await asyncio.wait_for(self._task, DEADLINE)


async def test_watch_yields_label_moves_and_pins_with_their_versions(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service, AsyncClient(service.address) as client:
        run = await service.start()
        await run.publish(1, tensors())
        updates = client.watch(run.id)
        assert (await anext(updates)).kind == "snapshot"
        job = await client.job(run.id)
        moved = await job.move_label("stable", 1)
        await job.pin(1)
        await job.pin(1, pinned=False)

        found = [await anext(updates) for _ in range(3)]
        await updates.aclose()

    assert [(update.kind, update.label, update.version) for update in found] == [
        ("label_moved", moved, 0),
        ("version_pinned", None, 1),
        ("version_unpinned", None, 1),
    ]


async def test_a_watch_continues_where_it_stopped_when_the_service_comes_back(
    tmp_path: Path,
) -> None:
    launcher = FakeLauncher()
    async with serving(tmp_path / "state", launcher=launcher) as service:
        port = parse_address(service.address)[1]
        client = AsyncClient(service.address)
        run = await service.start()
        seen = Seen(client.watch(run.id))
        await run.publish(1, tensors())
        await until(lambda: "parameters_published" in seen.kinds)
        before = len(seen.kinds)
    async with client, serving(tmp_path / "state", launcher=launcher, port=port) as service:
        launcher.runs[run.id].write_result("succeeded")
        launcher.runs[run.id].end(Exit(exit_code=0))
        await seen.end()

        assert seen.kinds.count("snapshot") == 1
        assert seen.kinds.count("parameters_published") == 1
        assert seen.kinds[before:] == ["succeeded"]
        assert seen.states[-1] == State.SUCCEEDED


@pytest.fixture
def change_unseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Any]:
    """Add three events to a job of a service that is down; only the newest is kept."""

    async def change(job_id: str) -> None:
        monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 1)
        with contextlib.closing(Database(tmp_path / "state" / "dbp.sqlite")) as database:
            store = Store(database, events_kept=1)
            for time in range(3):
                event = Event(EventKind.VERSION_PINNED, float(time), version=1)
                await store.append(await store.get(job_id), event)

    return change


@pytest.mark.parametrize("every_job", [False, True])
async def test_a_watch_that_missed_changes_begins_again_and_says_so_once(
    tmp_path: Path,
    change_unseen: Callable[[str], Any],
    every_job: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launcher, watch = FakeLauncher(), EventBroadcaster.watch
    broadcasters: list[EventBroadcaster] = []

    def noted(events: EventBroadcaster, *arguments: Any) -> AsyncIterator[Any]:
        broadcasters.append(events)
        return watch(events, *arguments)

    monkeypatch.setattr(EventBroadcaster, "watch", noted)
    async with serving(tmp_path / "state", launcher=launcher) as service:
        port = parse_address(service.address)[1]
        client = AsyncClient(service.address)
        runs = [await service.start() for _ in range(2)]
        updates = client.watch("" if every_job else runs[0].id)
        before = [await anext(updates) for _ in range(2 if every_job else 1)]
    await change_unseen(runs[0].id)
    async with client, serving(tmp_path / "state", launcher=launcher, port=port):
        async with asyncio.timeout(DEADLINE):
            after = [await anext(updates) for _ in before]
            job = await client.job(runs[0].id)
            broadcasters[-1].status(await job.get())  # as for a change of its conditions
            shown_again = await anext(updates)
            await job.cancel(force=True)
            changed = await anext(updates)
        await updates.aclose()

    assert [(update.kind, update.gap) for update in before] == [("snapshot", False)] * len(
        before
    )
    assert [(update.kind, update.gap) for update in after] == [("snapshot", True)] * len(before)
    assert (shown_again.kind, shown_again.gap) == ("snapshot", False)
    assert (changed.kind, changed.gap) == ("cancelling", False)


async def test_waiting_for_the_end_outlasts_missed_changes(
    tmp_path: Path, change_unseen: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, sent, watch = FakeLauncher(), asyncio.Event(), EventBroadcaster.watch

    async def noted(*arguments: Any) -> AsyncIterator[Any]:
        async for item in watch(*arguments):
            yield item
            sent.set()

    monkeypatch.setattr(EventBroadcaster, "watch", noted)
    async with serving(tmp_path / "state", launcher=launcher) as service:
        port = parse_address(service.address)[1]
        client = AsyncClient(service.address)
        run = await service.start()
        waiting = asyncio.create_task((await client.job(run.id)).wait(timeout=DEADLINE))
        await asyncio.wait_for(sent.wait(), DEADLINE)
    await change_unseen(run.id)
    async with client, serving(tmp_path / "state", launcher=launcher, port=port):
        launcher.runs[run.id].write_result("succeeded")
        launcher.runs[run.id].end(Exit(exit_code=0))

        assert (await waiting).state is State.SUCCEEDED


async def test_a_log_is_opened_again_after_an_end_of_unknown_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = iter([0, 99, 3])  # unspecified, one that this client does not know, end of log
    monkeypatch.setattr("dbp.service.job_service.stream_end_to_proto", lambda _: next(reasons))
    async with serving(tmp_path / "state") as service, AsyncClient(service.address) as client:
        run = await service.start()
        run.write_log("one\n")

        lines = [line async for line in client.logs(run.id)]

    assert (lines, list(reasons)) == (["one"], [])


async def test_a_log_continues_where_it_stopped_when_the_service_comes_back(
    tmp_path: Path,
) -> None:
    launcher = FakeLauncher()
    lines: list[str] = []

    async def follow(source: AsyncIterator[str]) -> None:
        nonlocal lines
        async for line in source:
            lines += [line]

    async with serving(tmp_path / "state", launcher=launcher) as service:
        port = parse_address(service.address)[1]
        client = AsyncClient(service.address)
        run = await service.start()
        following = asyncio.create_task(follow(client.logs(run.id, follow=True)))
        run.write_log("one\ntwo\n")
        await until(lambda: lines == ["one", "two"])
        folder = launcher.runs[run.id].folder
    with (folder / "log.txt").open("a") as file:
        file.write("three\n")
    async with client, serving(tmp_path / "state", launcher=launcher, port=port):
        await until(lambda: lines == ["one", "two", "three"])
        launcher.runs[run.id].write_result("succeeded")
        launcher.runs[run.id].end(Exit(exit_code=0))
        await asyncio.wait_for(following, DEADLINE)

    assert lines == ["one", "two", "three"]


async def items_of(client: AsyncClient, job_id: str, kind: str) -> AsyncIterator[object]:
    """Yield what one of the three streams of a job yields."""
    if kind == "updates":
        items: AsyncIterator[object] = client.watch(job_id)
    elif kind == "log":
        items = client.logs(job_id, follow=True)
    else:
        items = (await client.job(job_id)).watch_parameters()
    async for item in items:
        yield item


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[NoListener]:
    """The errors of streams that were opened while nothing listened."""
    found: list[NoListener] = []
    again = Patience.again

    async def noted(self: Patience, error: Unavailable) -> None:
        if isinstance(error, NoListener):
            found.append(error)
        await again(self, error)

    monkeypatch.setattr(Patience, "again", noted)
    return found


@pytest.mark.parametrize("kind", ["updates", "log", "parameters"])
async def test_a_stream_is_opened_again_until_something_listens(
    tmp_path: Path, refusals: list[NoListener], kind: str
) -> None:
    launcher = FakeLauncher()
    async with serving(tmp_path / "state", launcher=launcher) as service:
        port = parse_address(service.address)[1]
        client = AsyncClient(service.address)
        run = await service.start()
        run.write_log("one\n")
        await run.publish(1, tensors())
        items = items_of(client, run.id, kind)
        await asyncio.wait_for(anext(items), DEADLINE)
        rest = asyncio.create_task(exhaust(items))
    await until(lambda: len(refusals) > 1)
    async with client, serving(tmp_path / "state", launcher=launcher, port=port):
        launcher.runs[run.id].write_result("succeeded")
        launcher.runs[run.id].end(Exit(exit_code=0))

        await asyncio.wait_for(rest, DEADLINE)


async def test_a_client_that_is_closed_while_nothing_listens_ends_its_streams(
    tmp_path: Path, refusals: list[NoListener]
) -> None:
    async with serving(tmp_path / "state") as service:
        client = AsyncClient(service.address, patience=math.inf)
        run = await service.start()
        updates = client.watch(run.id)
        await anext(updates)
        watching = asyncio.create_task(exhaust(updates))
    await until(lambda: len(refusals) > 1)

    await client.close()

    with pytest.raises(ClientClosed):
        await asyncio.wait_for(watching, DEADLINE)
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(anext(client.watch()), DEADLINE)


async def exhaust(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


async def test_a_service_that_stays_away_is_given_up_after_the_patience(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "state") as service:
        client = AsyncClient(service.address, patience=0.5)
        run = await service.start()
        updates = client.watch(run.id)
        assert (await anext(updates)).kind == "snapshot"
    async with client:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(Unavailable):
                async for _ in updates:
                    pass


async def test_an_error_that_is_no_break_ends_the_stream_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service, AsyncClient(service.address) as client:
        with pytest.raises(NotFound):
            await asyncio.wait_for(anext(client.watch("nothing")), DEADLINE)
        with pytest.raises(NotFound):
            await asyncio.wait_for(anext(client.logs("nothing")), DEADLINE)


async def test_leaving_a_watch_frees_the_service_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service, AsyncClient(service.address) as client:
        job = await client.submit(document())
        updates = client.watch()
        await anext(updates)

        await updates.aclose()

        assert (await job.get()).id == job.id


async def test_patience_doubles_its_waits_and_starts_over_after_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    as_long_as_allowed(monkeypatch)
    monkeypatch.setattr("dbp.client.transport.patience.asyncio.sleep", record(waits))
    cut = Unavailable("cut")
    patience = Patience(60)

    for _ in range(6):
        await patience.again(cut)
    patience.alive()
    await patience.again(cut)

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 0.1]
    with pytest.raises(Unavailable, match="cut"):
        await Patience(0.05).again(cut)


async def test_patience_without_a_limit_is_logged_as_such(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await Patience(math.inf).again(DeadlineExceeded("silent"))
    await Patience(90).again(DeadlineExceeded("silent"))

    assert [record.message for record in caplog.records] == [
        "silent; trying again until it answers",
        "silent; trying again for up to 1 min 30 s",
    ]


def record(waits: list[float]) -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    return sleep


async def test_a_watch_with_data_outlives_a_service_that_dies_before_the_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receive = AsyncParameters.receive
    tries = 0

    async def broken(*arguments: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("gone")
        return await receive(*arguments, **options)

    monkeypatch.setattr(AsyncParameters, "receive", broken)
    async with serving(tmp_path / "state") as service, AsyncClient(service.address) as client:
        run = await service.start()
        await run.publish(1, tensors())
        updates = (await client.job(run.id)).watch_parameters(data=True)

        update = await asyncio.wait_for(anext(updates), DEADLINE)

        assert update.parameters is not None
        assert (update.version.version, tries) == (1, 3)
        await updates.aclose()


async def test_a_watch_without_its_data_is_given_up_after_the_patience(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise Unavailable("gone")

    monkeypatch.setattr(AsyncParameters, "receive", broken)
    async with serving(tmp_path / "state") as service:
        run = await service.start()
        await run.publish(1, tensors())
        async with AsyncClient(service.address, patience=0.5) as client:
            updates = (await client.job(run.id)).watch_parameters(data=True)
            with pytest.raises(Unavailable, match="gone"):
                await asyncio.wait_for(anext(updates), DEADLINE)
