"""Read parameters only if they are newer or different, and wait for them."""

from __future__ import annotations

import asyncio

import grpc

from dbp.v1 import parameter_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.parameters.reading import Code, ask, read, reason
from tests.service.setups import Run, Service, read_all, selector, tensors, until


async def test_only_another_digest(service: Service, run: Run) -> None:
    published = await run.publish(1, tensors())

    header, content, _ = await read(service, ask(run, if_none_match=published.digest))
    assert (header.not_modified, content) == (True, b"")
    assert not (await read(service, ask(run, if_none_match="00")))[0].not_modified
    unary = pb.GetParametersRequest(selector=selector(run.id), if_none_match=published.digest)
    assert (await service.parameters.GetParameters(unary)).not_modified
    reader = asyncio.create_task(
        read(service, ask(run, if_none_match=published.digest, wait=10.0))
    )
    await asyncio.sleep(0.05)
    await run.publish(2, tensors(seed=2))
    assert (await reader)[0].version.version == 2


async def test_parameters_that_are_too_old_are_refused_and_asked_for(
    service: Service, run: Run
) -> None:
    await run.publish(2, tensors())
    await run.progress(12)

    assert (await read(service, ask(run, max_staleness_steps=10)))[0].version.step == 2
    stream = service.parameters.StreamParameters(ask(run, max_staleness_steps=9))
    info = await reason(read_all(stream), Code.FAILED_PRECONDITION)
    assert (info.reason, info.metadata["steps_behind"]) == ("STALE_PARAMETERS", "10")
    unary = pb.GetParametersRequest(selector=selector(run.id), max_staleness_steps=0)
    await reason(service.parameters.GetParameters(unary), Code.FAILED_PRECONDITION)
    negative = service.parameters.StreamParameters(ask(run, max_staleness_steps=-1))
    await reason(read_all(negative), Code.INVALID_ARGUMENT)
    reader = asyncio.create_task(read(service, ask(run, max_staleness_steps=0, wait=10.0)))
    await until(lambda: run.asked)
    assert run.asked[0].publish, "the run is asked for a fresh version"
    await run.publish(12, tensors())
    assert (await reader)[0].version.step == 12


async def test_readers_that_want_the_newest_step_ask_a_run_once_a_second(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    await run.progress(50)
    readers = [
        asyncio.create_task(read(service, ask(run, max_staleness_steps=0, wait=1.5)))
        for _ in range(20)
    ]
    for step in range(2, 12):
        await asyncio.sleep(0.1)
        await run.publish(step, tensors(seed=step))

    results = await asyncio.gather(*readers, return_exceptions=True)

    assert all(isinstance(result, grpc.aio.AioRpcError) for result in results)
    assert 1 <= len(run.asked) <= 3


async def test_a_run_that_comes_back_is_asked_for_what_a_reader_waits_for(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    await run.progress(9)
    await run.leave()
    service.runs.remove(run)
    reading = asyncio.create_task(read(service, ask(run, max_staleness_steps=2, wait=15.0)))
    await asyncio.sleep(0.1)

    back = service.run_of(run.id)
    await back.attach()
    await back.progress(10)
    await until(lambda: back.asked)
    await back.publish(10, tensors())

    assert (await reading)[0].version.step == 10


async def test_a_numbered_version_that_the_reader_has_is_not_waited_for(
    service: Service, run: Run
) -> None:
    digest = (await run.publish(1, tensors())).digest

    for known in ({"newer_than": 1}, {"if_none_match": digest}):
        async with asyncio.timeout(DEADLINE):
            header, _, _ = await read(service, ask(run, version=1, wait=60.0, **known))
        assert header.not_modified


async def test_a_reader_learns_that_nothing_more_will_come(service: Service, run: Run) -> None:
    await run.publish(1, tensors(), final=True)
    assert not (await read(service, ask(run)))[0].job_ended
    await run.end()

    assert (await read(service, ask(run)))[0].job_ended
    header, *_ = await read(service, ask(run, newer_than=1, wait=10.0))
    assert (header.not_modified, header.job_ended) == (True, True)
