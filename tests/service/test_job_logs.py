"""StreamLogs: any offset, following, and the end of streams when the service drains."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbp.v1 import job_service_pb2 as pb
from tests.service.job_requests import Code, end_of, events
from tests.service.setups import Service, read_all, refused


async def log_of(service: Service, **request: Any) -> list[pb.StreamLogsResponse]:
    return await read_all(service.jobs.StreamLogs(pb.StreamLogsRequest(**request)))


async def test_a_log_is_read_from_anywhere(service: Service) -> None:
    run = await service.start()
    run.write_log("one\ntwo\n")
    name = f"jobs/{run.id}"

    *chunks, last = await log_of(service, name=name)
    assert [line for chunk in chunks for line in chunk.lines] == ["one", "two"]
    assert end_of(last) == "end_of_log"

    run.write_log("three\n")
    resumed = await log_of(service, name=name, offset=last.next_offset, attempt=1)
    assert [line for chunk in resumed for line in chunk.lines] == ["three"]
    assert resumed[-1].next_offset == len("one\ntwo\nthree\n")


async def test_the_log_of_one_rank_has_offsets_of_its_own(service: Service) -> None:
    run = await service.start(workers=2)
    run.write_log("one\ntwo\n")
    run.write_log("two\n", name="log-rank-1.txt")

    *chunks, last = await log_of(service, name=f"jobs/{run.id}", rank=1)

    assert [line for chunk in chunks for line in chunk.lines] == ["two"]
    assert last.next_offset == 4
    (silent,) = await log_of(service, name=f"jobs/{run.id}", rank=0)
    assert (silent.next_offset, end_of(silent)) == (0, "end_of_log")


async def test_the_only_rank_has_the_whole_log(service: Service) -> None:
    run = await service.start()
    run.write_log("one\n")

    chunk, _ = await log_of(service, name=f"jobs/{run.id}", rank=0)

    assert list(chunk.lines) == ["one"]


async def test_a_log_is_followed_to_the_end_of_the_job(service: Service) -> None:
    run = await service.start()
    stream = service.jobs.StreamLogs(pb.StreamLogsRequest(name=f"jobs/{run.id}", follow=True))
    run.write_log("one\n")
    first = await stream.read()

    run.write_log("two\nthe last words, without an end of line")
    await run.end()
    *rest, end = await read_all(stream)

    lines = [line for message in (first, *rest) for line in message.lines]
    assert lines == ["one", "two", "the last words, without an end of line"]
    assert end_of(end) == "job_ended"
    assert [message.attempt for message in (first, *rest, end)] == [1] * (len(rest) + 2)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"offset": -1}, Code.INVALID_ARGUMENT, "offset"),
        ({"attempt": 2}, Code.NOT_FOUND, "no attempt 2"),
        ({"attempt": -1}, Code.NOT_FOUND, "no attempt -1"),
        ({"rank": 1}, Code.NOT_FOUND, "no rank 1; its only rank is 0"),
        ({"rank": -1}, Code.NOT_FOUND, "no rank -1"),
        ({"name": "jobs/digits-x"}, Code.NOT_FOUND, "digits-x"),
    ],
)
async def test_a_log_that_is_not_there_is_refused(
    service: Service, change: dict[str, Any], code: Code, text: str
) -> None:
    run = await service.start()

    answer = await refused(log_of(service, **{"name": f"jobs/{run.id}"} | change), code)

    assert text in answer


async def test_streams_end_with_draining_and_training_is_left_alone(service: Service) -> None:
    run = await service.start()
    run.write_log("one\n")
    log = service.jobs.StreamLogs(pb.StreamLogsRequest(name=f"jobs/{run.id}", follow=True))
    streams = [service.watch(run.id), service.watch(), log]
    first = [await stream.read() for stream in streams]
    rest = [asyncio.create_task(read_all(stream)) for stream in streams]

    await service.stop()
    one, everything, lines = await asyncio.gather(*rest)

    assert [message.WhichOneof("event") for message in first[:2]] == ["snapshot", "snapshot"]
    assert events(one) == ["end draining"]
    assert events(everything) == ["end draining"]
    assert one[-1].resume_token == first[0].resume_token
    assert end_of(lines[-1]) == "draining"
    assert lines[-1].next_offset == len("one\n")
    running = service.launcher.runs[run.id]
    assert (running.stops, running.kills) == (0, 0)
