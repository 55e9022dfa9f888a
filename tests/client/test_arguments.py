"""Wrong arguments of the client: a dbp error that names them, before anything is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import dbp
from dbp.client.arguments import seconds, whole_number
from dbp.client.async_job import AsyncJobHandle
from dbp.errors import InvalidArgument, InvalidInput, InvalidType
from dbp.rpc.limits import INT64_MAX, YEAR_SECONDS
from tests.service.setups import document

NOBODY = "127.0.0.1:1"
HUGE: Any = 10**30
NAN = float("nan")
TIME = timedelta(seconds=3)


@pytest.fixture
async def client() -> AsyncIterator[dbp.AsyncClient]:
    async with dbp.AsyncClient(NOBODY, patience=0) as client:
        yield client


@pytest.fixture
async def job(client: dbp.AsyncClient) -> Any:
    """A handle; typed as Any, for the calls below are errors to a type checker, too."""
    return AsyncJobHandle(client._calls, "digits-7k2m9q")


async def first(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


Call = Callable[[Any], Awaitable[Any]]

WRONG_VALUES: list[tuple[str, Call]] = [
    ("wait: must be >= 0 and <= 31,622,400 seconds, got nan", lambda j: j.parameters(wait=NAN)),
    ("wait: .* got inf", lambda j: j.parameters(wait=math.inf)),
    ("wait: .* got -1", lambda j: j.parameters(wait=-1)),
    ("wait: .* got nan", lambda j: j.publish(wait=NAN)),
    ("wait: .* got -1", lambda j: j.publish(wait=-1)),
    ("grace_seconds: .* got nan", lambda j: j.cancel(grace_seconds=NAN)),
    ("grace_seconds: .* got -1", lambda j: j.cancel(grace_seconds=-1)),
    ("version: must be >= 0, got -1", lambda j: j.parameters(version=-1)),
    ("version: must be <= 9,223,372,036,854,775,807", lambda j: j.parameters(version=HUGE)),
    ("version: .* an int of 39867 bits", lambda j: j.parameters(version=10**12001)),
    ("step: .* got -1", lambda j: j.parameters(step=-1)),
    ("newer_than: .* got -1", lambda j: j.parameters(newer_than=-1)),
    ("max_staleness_steps: .* got 1000", lambda j: j.parameters(max_staleness_steps=HUGE)),
    ("label: cannot be written as UTF-8", lambda j: j.parameters(label="\ud800")),
    ("name only one", lambda j: j.parameters(version=1, label="best")),
    ("version: must be >= 0, got -1", lambda j: j.download("x", version=-1)),
    ("version: must be >= 0, got -1", lambda j: j.metadata(version=-1)),
    ("version: must be >= 0, got -1", lambda j: j.predict([[1.0]], version=-1)),
    ("version: must be <=", lambda j: j.move_label("x", HUGE)),
    ("expected_version: .* got -1", lambda j: j.move_label("x", 1, expected_version=-1)),
    ("version: must be >= 0, got -1", lambda j: j.pin(-1)),
    ("version, at, step: name a version by one", lambda j: j.pin(1, at="best")),
    ("attempt: must be <= 2,147,483,647", lambda j: first(j.logs(attempt=HUGE))),
    ("newer_than: .* got 1000", lambda j: first(j.watch_parameters(newer_than=HUGE))),
    ("timeout: .* got nan", lambda j: j.mirror().wait(timeout=NAN)),
    ("path: cannot name a file: ''", lambda j: j.download("")),
    ("path: cannot name a file", lambda j: j.download("a\0b")),
    ("path: cannot name a file", lambda j: j.download("\ud800")),
    ("newer_than: .* got -1", lambda j: j.mirror().wait(newer_than=-1)),
]  # fmt: skip

WRONG_TYPES: list[tuple[str, Call]] = [
    ("wait: must be seconds as a number, got str '3'", lambda j: j.parameters(wait="3")),
    (r"wait: .* got timedelta .*total_seconds\(\)", lambda j: j.parameters(wait=TIME)),
    ("wait: .* got NoneType", lambda j: j.publish(wait=None)),
    ("wait: .* got bool", lambda j: j.publish(wait=True)),
    ("version: must be an integer, got str", lambda j: j.metadata(version="latest")),
    ("version: .* got float 1.5", lambda j: j.parameters(version=1.5)),
    ("version: .* got bool", lambda j: j.parameters(version=True)),
    ("version: must be an integer, got str 'latest'", lambda j: j.pin("latest")),
    ("at: must be a str, got int 3", lambda j: j.pin(at=3)),
    ("step: must be an integer", lambda j: j.move_label("x", step="3")),
    ("label: must be a str, got int 3", lambda j: j.undo_label(3)),
    ("newer_than: .* got NoneType", lambda j: j.parameters(newer_than=None)),
    ("label: must be a str, got int 3", lambda j: j.parameters(label=3)),
    ("label: must be a str, got int 3", lambda j: j.move_label(3, 1)),
    ("label: must be a str, got int 3", lambda j: j.predict([[1.0]], label=3)),
    (r"patterns: .* got list .*one by one", lambda j: j.parameters(["0.*"])),
    ("patterns: must be a str, got int 0", lambda j: j.parameters(0)),
    ("patterns: .* got list", lambda j: first(j.watch_parameters(["0.*"]))),
    ("patterns: .* got list", lambda j: j.mirror(["0.*"]).wait()),
    ("cast: must be a str, got int 16", lambda j: j.parameters(cast=16)),
    ("if_none_match: must be a str", lambda j: j.parameters(if_none_match=b"x")),
    ("on_bytes: must be a function, got int", lambda j: j.parameters(on_bytes=3)),
    ("path: must be a path .* got NoneType", lambda j: j.download(None)),
    ("path: must be a path .* got bytes", lambda j: j.download(b"x")),
    ("cast: must be a str, got ndarray", lambda j: j.parameters(cast=np.ones(2))),
    ("cast: must be a str, got int 0", lambda j: j.parameters(cast=0)),
    ("attempt: .* got str '1'", lambda j: first(j.logs(attempt="1"))),
    ("timeout: .* got str", lambda j: j.mirror().wait(timeout="3")),
    ("force: must be True or False, got str 'yes'", lambda j: j.cancel(force="yes")),
    ("pinned: must be True or False, got NoneType", lambda j: j.pin(1, pinned=None)),
    ("follow: must be True or False, got int 1", lambda j: first(j.logs(follow=1))),
    ("data: must be True or False", lambda j: first(j.watch_parameters(data="x"))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "call"), WRONG_VALUES)
async def test_a_wrong_value_is_a_value_error(message: str, call: Call, job: Any) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        await call(job)

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InvalidInput)


@pytest.mark.parametrize(("message", "call"), WRONG_TYPES)
async def test_a_wrong_type_is_a_type_error(message: str, call: Call, job: Any) -> None:
    with pytest.raises(InvalidType, match=message) as caught:
        await call(job)

    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, InvalidInput)


async def test_streams_are_refused_when_they_are_asked_for(job: Any) -> None:
    """And not only at their first item, which may be taken far away from there."""
    asks: list[Callable[[], Any]] = [
        lambda: job.logs(attempt=-1),
        lambda: job.watch_parameters(cast=3),
        lambda: job.mirror(0),
    ]
    for ask in asks:
        with pytest.raises(InvalidInput):
            ask()


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (InvalidArgument, "workers: must be >= 1, got 0", {"workers": 0}),
        (InvalidArgument, "workers: must be <= 2,147,483,647", {"workers": 2**31}),
        (InvalidType, "workers: must be an integer, got str '2'", {"workers": "2"}),
        (InvalidType, "workers: .* got float 2.0", {"workers": 2.0}),
        (InvalidType, "request_id: must be a str, got int 3", {"request_id": 3}),
        (InvalidType, "request_id: must be a str, got int 0", {"request_id": 0}),
        (InvalidType, "validate_only: must be True or False", {"validate_only": "no"}),
    ],
)
async def test_options_of_submit(
    client: dbp.AsyncClient, error: type[Exception], message: str, options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        await client.submit(document(), **options)


@pytest.mark.parametrize(
    ("error", "message", "spec"),
    [
        (InvalidType, "spec: must be the path of a file, a mapping .* got int 3", 3),
        (InvalidType, "spec: .* got NoneType", None),
        (InvalidType, "spec: .* got list", [document()]),
        (InvalidArgument, "spec: .* text of several lines; pass tomllib", "a = 1\nb = 2\n"),
        (dbp.errors.InvalidSpec, "a field's name must be a string, got 1", {1: 2}),
        (
            dbp.errors.InvalidSpec,
            "train: a field's name must be a string",
            {"train": {None: 2}},
        ),
        (dbp.errors.InvalidSpec, "seed: must be smaller than", {"seed": HUGE}),
        (dbp.errors.InvalidSpec, "name: must be a string", {"name": date(2026, 1, 2)}),
    ],
)
async def test_arguments_that_are_no_spec_are_refused(
    client: dbp.AsyncClient, error: type[Exception], message: str, spec: Any
) -> None:
    with pytest.raises(error, match=message):
        await client.submit(spec)


async def test_jobs_are_named_by_texts_and_states_by_names(client: dbp.AsyncClient) -> None:
    wrong: Any
    for wrong in (3, None, b"digits"):
        with pytest.raises(InvalidType, match="job_id: must be a str"):
            await client.job(wrong)
        with pytest.raises(InvalidType, match="job_id: must be a str"):
            await first(client.watch(wrong))
    with pytest.raises(InvalidArgument, match="job_id: cannot be written as UTF-8"):
        await client.job("\ud800")
    wrong = "RUNING"
    with pytest.raises(InvalidArgument, match="unknown 'RUNING', did you mean 'RUNNING'"):
        client.jobs(wrong)
    wrong = 10**5000  # Python writes no int of this length
    with pytest.raises(InvalidArgument, match="states: unknown an int of 16610 bits; states:"):
        client.jobs(wrong)


def test_options_of_the_client_itself() -> None:
    wrong: Any
    for wrong in (NAN, -1):
        with pytest.raises(InvalidArgument, match="patience: must be >= 0 seconds"):
            dbp.Client(NOBODY, patience=wrong)
    wrong = 5327
    with pytest.raises(InvalidType, match="address: must be a str, got int 5327"):
        dbp.Client(wrong)
    dbp.Client(NOBODY, patience=math.inf).close()


@pytest.mark.parametrize("number", [0, 7, np.int8(7), np.uint64(7), INT64_MAX])
def test_whole_numbers_of_any_type_are_taken(number: Any) -> None:
    assert whole_number("x", number) == number


@pytest.mark.parametrize("number", [0, 0.5, np.float32(0.5), np.int64(2), Fraction(1, 2)])
def test_seconds_of_any_type_are_taken(number: Any) -> None:
    assert seconds("x", number) == number
    assert seconds("x", YEAR_SECONDS) == YEAR_SECONDS
    with pytest.raises(InvalidType):
        seconds("x", Decimal("0.5"))


async def test_a_client_made_outside_of_an_event_loop_is_refused() -> None:
    def make() -> None:
        with pytest.raises(dbp.errors.WrongEventLoop, match=r"or use dbp\.Client") as caught:
            dbp.AsyncClient(NOBODY)
        assert isinstance(caught.value, RuntimeError)

    await asyncio.to_thread(make)


async def test_a_client_in_another_event_loop_is_refused(client: dbp.AsyncClient) -> None:
    job = AsyncJobHandle(client._calls, "digits-7k2m9q")
    mirror = job.mirror()

    async def elsewhere() -> None:
        calls: list[Callable[[], Awaitable[Any]]] = [
            job.get, job.parameters, job.labels, client.close, job.publish,
            lambda: job.predict([[1.0]]), lambda: first(job.watch()), mirror.wait,
            lambda: first(job.logs()), lambda: first(job.watch_parameters()),
            lambda: first(job.versions()), lambda: first(client.jobs()), mirror.__aenter__,
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(dbp.errors.WrongEventLoop, match="made in another event loop"):
                await call()

    await asyncio.to_thread(asyncio.run, elsewhere())
