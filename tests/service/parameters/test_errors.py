"""Every way in which asking for parameters can fail: its code, its reason, its details."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from dbp.access.principal import CALLER, Principal
from dbp.access.roles import Role
from dbp.errors import TooManyReaders
from dbp.service.parameters import encoded_cache
from dbp.service.parameters import service as parameter_service
from dbp.service.parameters.readers import READS, ReaderLimits
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1.parameter_pb2 import CAST_BF16, CAST_F16
from dbp.versions import selection
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, details, read_all, tensors, until

Code = grpc.StatusCode


@pytest.fixture
async def run(service: Service) -> Run:
    """A running job whose newest of three versions, of which two are kept, is two steps old."""
    run = await service.start(publish={"every_steps": 1, "keep": 2})
    for step in (1, 2, 3):
        await run.publish(step, tensors(seed=step))
    await run.progress(5)
    return run


async def failing(call: Any, code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    """The error of a call, which has this code and this reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found = caught.value
    info = details(found, error_details_pb2.ErrorInfo())
    assert (found.code(), info.reason, info.domain) == (code, reason, "dbp"), found.details()
    return found


def metadata(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return dict(details(error, error_details_pb2.ErrorInfo()).metadata)


def readers(service: Service, **fields: Any) -> list[Callable[[], Any]]:
    """Each way of reading that takes a selector."""
    selector = pb.ParameterSelector(**fields)
    stubs = service.parameters
    return [
        lambda: stubs.GetParameterInfo(pb.GetParameterInfoRequest(selector=selector)),
        lambda: stubs.GetParameters(pb.GetParametersRequest(selector=selector)),
        lambda: read_all(stubs.StreamParameters(pb.StreamParametersRequest(selector=selector))),
    ]


@pytest.mark.parametrize("name", ["", "digits", "jobs/", "jobs/a/b"])
async def test_malformed_job_names_are_invalid_input(service: Service, name: str) -> None:
    for read in readers(service, job=name):
        await failing(read(), Code.INVALID_ARGUMENT, "INVALID_INPUT")


async def test_no_such_job(service: Service) -> None:
    for read in readers(service, job="jobs/ghost"):
        error = await failing(read(), Code.NOT_FOUND, "JOB_NOT_FOUND")
        assert metadata(error) == {"job": "ghost"}
        named = details(error, error_details_pb2.ResourceInfo())
        assert (named.resource_type, named.resource_name) == ("dbp.v1/Job", "ghost")
    name = "jobs/ghost"
    stubs = service.parameters
    for call in (
        stubs.ListVersions(pb.ListVersionsRequest(job=name)),
        stubs.ListLabels(pb.ListLabelsRequest(job=name)),
        stubs.MoveLabel(pb.MoveLabelRequest(job=name, label="a", version=1)),
        stubs.PinVersion(pb.PinVersionRequest(job=name, version=1)),
        stubs.PublishVersion(pb.PublishVersionRequest(job=name)),
        read_all(stubs.WatchParameters(pb.WatchParametersRequest(job=name))),
    ):
        await failing(call, Code.NOT_FOUND, "JOB_NOT_FOUND")


async def test_nothing_is_published_yet(service: Service) -> None:
    run = await service.start()
    for read in readers(service, job=f"jobs/{run.id}"):
        error = await failing(read(), Code.FAILED_PRECONDITION, "NOT_PUBLISHED_YET")
        retry = details(error, error_details_pb2.RetryInfo())
        assert retry.retry_delay.ToMilliseconds() > 0


async def test_a_version_is_no_longer_kept(service: Service, run: Run) -> None:
    for read in readers(service, job=f"jobs/{run.id}", version=1):
        error = await failing(read(), Code.OUT_OF_RANGE, "VERSION_EVICTED")
        found = metadata(error)
        assert (found["version"], found["oldest"], found["newest"]) == ("1", "2", "3")
    for read in readers(service, job=f"jobs/{run.id}", step=1):
        error = await failing(read(), Code.OUT_OF_RANGE, "VERSION_EVICTED")
        assert metadata(error)["oldest"] == "2"


async def test_a_version_is_not_there_yet(service: Service, run: Run) -> None:
    for read in readers(service, job=f"jobs/{run.id}", version=4):
        error = await failing(read(), Code.NOT_FOUND, "VERSION_NOT_FOUND")
        assert metadata(error)["newest"] == "3"


async def test_a_label_is_not_there(service: Service, run: Run) -> None:
    move = pb.MoveLabelRequest(job=f"jobs/{run.id}", label="stable", version=2)
    await service.parameters.MoveLabel(move)
    for read in readers(service, job=f"jobs/{run.id}", label="stabel"):
        error = await failing(read(), Code.NOT_FOUND, "LABEL_NOT_FOUND")
        assert metadata(error)["known"] == "stable"
        assert "did you mean 'stable'" in (error.details() or "")


async def test_a_pattern_matches_no_tensor(service: Service, run: Run) -> None:
    for read in readers(service, job=f"jobs/{run.id}", tensors=["0.*", "0.wieght"]):
        error = await failing(read(), Code.NOT_FOUND, "TENSOR_NOT_FOUND")
        assert metadata(error)["nearest"].split(", ")[0] == "0.weight"
        (bad,) = details(error, error_details_pb2.BadRequest()).field_violations
        assert bad.field == "selector.tensors"


async def test_at_most_five_near_names_are_reported(service: Service) -> None:
    run = await service.start()
    await run.publish(1, {f"{n}.weight": tensors()["0.bias"] for n in range(9)})

    for read in readers(service, job=f"jobs/{run.id}", tensors=["9.weight"]):
        error = await failing(read(), Code.NOT_FOUND, "TENSOR_NOT_FOUND")
        assert len(metadata(error)["nearest"].split(", ")) == 5


async def test_too_large_for_one_message(service: Service, run: Run) -> None:
    await run.publish(6, tensors(600_000))
    request = pb.GetParametersRequest(selector=pb.ParameterSelector(job=f"jobs/{run.id}"))

    error = await failing(
        service.parameters.GetParameters(request), Code.FAILED_PRECONDITION, "USE_STREAM"
    )

    assert int(metadata(error)["size_bytes"]) > int(metadata(error)["limit_bytes"])
    (link,) = details(error, error_details_pb2.Help()).links
    assert "StreamParameters" in link.url


async def test_selections_too_large_for_a_message_are_refused_before_encoding(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run.publish(6, tensors(600_000))
    request = pb.GetParametersRequest(cast=CAST_F16)
    request.selector.job = f"jobs/{run.id}"
    request.selector.tensors.append("*.weight")
    answer = await service.parameters.GetParameters(request)  # half of it fits
    assert len(answer.safetensors) < 3 << 20

    monkeypatch.setattr(parameter_service, "MAX_UNARY_BYTES", len(answer.safetensors) - 1)
    monkeypatch.setattr(encoded_cache, "derive", None)
    request.cast = CAST_BF16
    error = await failing(
        service.parameters.GetParameters(request), Code.FAILED_PRECONDITION, "USE_STREAM"
    )
    # As long as the other but for its dtype's name.
    assert abs(int(metadata(error)["size_bytes"]) - len(answer.safetensors)) <= 8


@pytest.mark.parametrize(("patterns", "text"), [(["*"] * 1_001, "1,001"), (["*" * 513], "513")])
async def test_too_many_or_too_long_patterns(
    service: Service, patterns: list[str], text: str
) -> None:
    stubs, job = service.parameters, "jobs/ghost"  # it is not even looked for
    waiting = pb.StreamParametersRequest()
    waiting.selector.job = job
    waiting.selector.tensors.extend(patterns)
    waiting.wait.FromSeconds(60)
    watching = pb.WatchParametersRequest(job=job, tensors=patterns)
    calls = [read() for read in readers(service, job=job, tensors=patterns)]
    for call in (
        *calls,
        read_all(stubs.StreamParameters(waiting)),
        read_all(stubs.WatchParameters(watching)),
    ):
        error = await failing(call, Code.INVALID_ARGUMENT, "INVALID_INPUT")
        assert text in (error.details() or "")


async def test_readers_at_once_are_counted_and_runs_publish_beside_them(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    derive = selection.derive

    def slow(*arguments: Any) -> Any:
        released.wait(DEADLINE)
        return derive(*arguments)

    monkeypatch.setattr(encoded_cache, "derive", slow)
    chosen = [["0.bias"] + ["0.weight"] * n for n in range(2)]
    requests = [
        pb.GetParametersRequest(
            selector=pb.ParameterSelector(job=f"jobs/{run.id}", version=3, tensors=patterns),
            cast=CAST_BF16,
        )
        for patterns in chosen
        for _ in range(320)
    ]
    calls = [service.parameters.GetParameters(request) for request in requests]
    try:
        await until(lambda: sum(call.done() for call in calls) == len(calls) - READS // 2)
        published = await run.publish(7, tensors())
        assert published.version == 4
        refused = [call for call in calls if call.done()]
        for call in refused:
            await failing(call, Code.RESOURCE_EXHAUSTED, "TOO_MANY_READERS")
    finally:
        released.set()
    for call in calls:
        if call not in refused:
            assert (await call).version.version == 3


async def test_staleness_above_the_limit_is_refused(service: Service, run: Run) -> None:
    request = pb.StreamParametersRequest(max_staleness_steps=1)
    request.selector.job = f"jobs/{run.id}"
    error = await failing(
        read_all(service.parameters.StreamParameters(request)),
        Code.FAILED_PRECONDITION,
        "STALE_PARAMETERS",
    )

    assert metadata(error)["steps_behind"] == "2"
    assert details(error, error_details_pb2.RetryInfo()).HasField("retry_delay")


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
async def test_bytes_that_were_damaged(
    service: Service, run: Run, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "state" / "jobs" / run.id / "parameters" / "3.safetensors"
    for read in readers(service, job=f"jobs/{run.id}"):
        await read()  # they were sound, and are remembered
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) * (damage == "flip"))

    for read in readers(service, job=f"jobs/{run.id}"):
        error = await failing(read(), Code.DATA_LOSS, "CORRUPT_PARAMETERS")
        named = details(error, error_details_pb2.ResourceInfo())
        assert named.resource_name == f"{run.id}/3"
    watch = pb.WatchParametersRequest(job=f"jobs/{run.id}", with_data=True)
    await failing(
        read_all(service.parameters.WatchParameters(watch)),
        Code.DATA_LOSS,
        "CORRUPT_PARAMETERS",
    )
    for read in readers(service, job=f"jobs/{run.id}", version=2):
        await read()


async def test_the_service_shuts_down_in_a_wait(service: Service, run: Run) -> None:
    request = pb.StreamParametersRequest(newer_than=3)
    request.selector.job = f"jobs/{run.id}"
    request.wait.FromSeconds(60)
    reading = asyncio.create_task(
        failing(
            read_all(service.parameters.StreamParameters(request)),
            Code.UNAVAILABLE,
            "DRAINING",
        )
    )
    await asyncio.sleep(0.1)

    await service.stop()

    error = await reading
    assert details(error, error_details_pb2.RetryInfo()).HasField("retry_delay")


def take(limits: ReaderLimits, owner: str, peer: str = "unix:") -> ExitStack:
    """One more read of a caller; closing the result ends it."""
    before = CALLER.set(Principal(owner, Role.VIEWER, peer))
    try:
        stack = ExitStack()
        stack.enter_context(limits.taken())
        return stack
    finally:
        CALLER.reset(before)


def test_too_many_in_all() -> None:
    limits = ReaderLimits("watches", 2)
    refused = pytest.raises(TooManyReaders, match="which is the limit")
    with take(limits, "a"), take(limits, "b"), refused:
        take(limits, "c")
    take(limits, "c").close()


def test_one_owner_leaves_reads_to_others_and_connections_over_a_socket_share_its_limit() -> (
    None
):
    limits = ReaderLimits("watches", 8, 2)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(take(limits, "a"))
        with pytest.raises(TooManyReaders, match="4 watches are open by a, at most 4"):
            take(limits, "a", "ipv4:127.0.0.1:1")
        for _ in range(4):
            stack.enter_context(take(limits, "b"))
    take(limits, "a").close()


def test_a_connection_over_tcp_has_a_limit_of_its_own() -> None:
    limits = ReaderLimits("watches", 8, 2)
    one, other = "ipv4:127.0.0.1:1", "ipv4:127.0.0.1:2"
    with take(limits, "a", one), take(limits, "a", one), take(limits, "a", other):
        with pytest.raises(TooManyReaders, match="open on this connection, at most 2"):
            take(limits, "a", one)
        take(limits, "a", other).close()


@pytest.mark.parametrize(
    ("job_state", "text"), [("ended", "is SUCCEEDED"), ("silent", "not connected")]
)
async def test_no_version_on_request(
    service: Service, run: Run, job_state: str, text: str
) -> None:
    if job_state == "ended":
        await run.end()
        code, reason = Code.FAILED_PRECONDITION, "WRONG_STATE"
    else:
        await run.leave()
        code, reason = Code.UNAVAILABLE, "UNAVAILABLE"
    request = pb.PublishVersionRequest(job=f"jobs/{run.id}")
    request.wait.FromMilliseconds(100)

    async with asyncio.timeout(DEADLINE):
        while True:  # until the service has noticed that the run is gone
            error = await failing(service.parameters.PublishVersion(request), code, reason)
            if text in (error.details() or ""):
                break
