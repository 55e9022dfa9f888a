"""Who may call what: every method against every kind of bad credential, and the good ones."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dbp.access.roles import METHODS, Role
from dbp.access.tokens import TokenStore
from dbp.service import request_limits
from dbp.service.receive_slots import OBSERVED_AT_ONCE
from dbp.v1 import access_service_pb2 as access_pb
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import worker_service_pb2 as worker_pb
from dbp.v1.access_service_pb2_grpc import AccessServiceStub
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.deadline import DEADLINE
from tests.service.callers import EVERY_METHOD, answer_code, bearer
from tests.service.setups import Service, refused, service_file, serving, until

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
OPEN = "/grpc.health.v1.Health/Check"
WORKER = [name for name, role in METHODS.items() if role is Role.WORKER]


@dataclass
class Place:
    """A service, a channel to it without a token, and tokens of every kind."""

    service: Service
    channel: grpc.aio.Channel
    tokens: dict[str, str]
    ended: str  # secret of an attempt that has ended
    state: Path


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    state, other = tmp_path / "state", tmp_path / "other"
    state.mkdir(0o700)
    other.mkdir(0o700)
    store, strange = (TokenStore(folder / "access", "me") for folder in (state, other))
    made = {role.value: store.create(role, "ann")[0] for role in (Role.VIEWER, Role.SUBMITTER)}
    made["expired"] = store.create(Role.ADMIN, "ann", 0.0)[0]
    made["revoked"], revoked = store.create(Role.ADMIN, "ann")
    store.revoke(revoked.id)
    made["other service"] = strange.create(Role.ADMIN, "ann")[0]
    made["wrong"] = made["viewer"][:-1] + ("A" if made["viewer"][-1] != "A" else "B")
    made["owner"] = store.owner_file.read_text().strip()
    async with serving(state) as service:
        run = await service.start()
        secret = dict(run.credentials)["dbp-attempt-secret"]
        await run.end()
        async with grpc.aio.insecure_channel(service.address) as channel:
            yield Place(service, channel, made, secret, state)


def credentials(place: Place) -> dict[str, tuple[tuple[str, str], ...]]:
    """Metadata of each fault that is a fault for every method."""
    owner = place.tokens["owner"]
    return {
        "none": (),
        "wrong": bearer(place.tokens["wrong"]),
        "empty": bearer(""),
        "no scheme": (("authorization", owner),),
        "basic": (("authorization", f"Basic {owner}"),),
        "digest": (("authorization", f"Digest {owner}"),),  # as long as "Bearer "
        "twice": (*bearer(owner), *bearer(owner)),
        "in another key": (("x-token", owner), ("cookie", f"token={owner}")),
        "expired": bearer(place.tokens["expired"]),
        "revoked": bearer(place.tokens["revoked"]),
        "other service": bearer(place.tokens["other service"]),
        "ended attempt": (("dbp-attempt-secret", place.ended),),
        "attempt as token": bearer(place.ended),
    }


async def test_every_method_refuses_every_bad_credential(place: Place) -> None:
    accepted = []
    for method in EVERY_METHOD:
        for fault, metadata in credentials(place).items():
            code, text = await answer_code(place.channel, method, metadata)
            if fault == "ended attempt" and method in WORKER:
                continue  # the next test
            if (code is UNAUTHENTICATED) == (method == OPEN):
                accepted.append((method, fault, code, text))
            secrets = [*place.tokens.values(), place.ended]
            assert not any(secret in text for secret in secrets), "an answer shows a secret"

    assert accepted == []


async def test_the_secret_of_an_ended_attempt_reports_and_publishes_nothing(
    place: Place,
) -> None:
    (job,) = (await place.service.jobs.ListJobs(jobs_pb.ListJobsRequest())).jobs
    run = place.service.run_of(job.name.removeprefix("jobs/"))

    await refused(run.publish(7, {}), grpc.StatusCode.FAILED_PRECONDITION)

    assert (await place.service.get(run.id)).latest_parameters.step == 0


async def test_every_method_refuses_a_role_below_its_own(place: Place) -> None:
    wrong = []
    for method, needed in METHODS.items():
        for role in (Role.VIEWER, Role.SUBMITTER):
            metadata = bearer(place.tokens[role])
            code, text = await answer_code(place.channel, method, metadata)
            refused_for_role = code in (PERMISSION_DENIED, UNAUTHENTICATED)
            expected = needed is not None and not role.satisfies(needed)
            if refused_for_role != expected:
                wrong.append((method, role, code, text))
    assert wrong == []


async def test_a_role_may_call_all_that_its_name_says(place: Place) -> None:
    viewer = bearer(place.tokens["viewer"])
    stub = JobServiceStub(place.channel)

    await stub.ListJobs(jobs_pb.ListJobsRequest(), metadata=viewer)

    call = stub.CreateJob(jobs_pb.CreateJobRequest(), metadata=viewer)
    text = await refused(call, PERMISSION_DENIED)
    assert "needs the role submitter" in text
    assert "dbp token create --role submitter --owner ann" in text


@pytest.mark.parametrize("fault", ["none", "wrong", "expired", "revoked"])
async def test_the_refusal_says_how_to_get_a_token(place: Place, fault: str) -> None:
    _, text = await answer_code(
        place.channel, "/dbp.v1.JobService/ListJobs", credentials(place)[fault]
    )

    assert "dbp token create" in text
    assert "$DBP_TOKEN_FILE" in text


async def test_an_unknown_method_says_nothing_to_a_stranger(place: Place) -> None:
    for method in ("/dbp.v1.JobService/CreateJobs", "/nothing.Here/Is"):
        code, _ = await answer_code(place.channel, method)
        assert code is UNAUTHENTICATED

        code, _ = await answer_code(place.channel, method, bearer(place.tokens["viewer"]))
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_the_socket_of_the_user_needs_no_token(place: Place) -> None:
    address = service_file(place.state)["socket"]
    path = Path(address.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async with grpc.aio.insecure_channel(address) as channel:
        stub = JobServiceStub(channel)
        assert (await stub.ListJobs(jobs_pb.ListJobsRequest())).jobs


async def test_a_token_that_is_sent_over_the_socket_decides_there_too(place: Place) -> None:
    """A proxy or a program that passes a caller's token on must not lend him its own role."""
    async with grpc.aio.insecure_channel(service_file(place.state)["socket"]) as channel:
        for fault in ("expired", "revoked", "wrong", "other service"):
            code, _ = await answer_code(
                channel, "/dbp.v1.JobService/ListJobs", bearer(place.tokens[fault])
            )
            assert code is UNAUTHENTICATED
        code, _ = await answer_code(
            channel, "/dbp.v1.JobService/CreateJob", bearer(place.tokens["viewer"])
        )
        assert code is PERMISSION_DENIED


async def test_health_is_checked_without_a_token_and_watched_with_one(place: Place) -> None:
    stub = health_pb2_grpc.HealthStub(place.channel)
    request = health_pb2.HealthCheckRequest()

    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    await refused(stub.Watch(request).read(), UNAUTHENTICATED)
    watch = stub.Watch(request, metadata=bearer(place.tokens["viewer"]))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_the_socket_and_the_notes_are_gone_after_the_service(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service:
        path = Path(service_file(tmp_path / "state")["socket"].removeprefix("unix:"))
        note = path.parent / f"tcp-{service.address.rpartition(':')[2]}.json"
        assert path.is_socket()
        assert note.is_file()

    assert not path.exists()
    assert not note.exists()


# Tokens that are made, listed and revoked while the service runs


def admin(place: Place) -> AccessServiceStub:
    """AccessService as the service's own user calls it."""
    return AccessServiceStub(place.service.channel)


async def create(
    place: Place, role: access_pb.Role, owner: str, seconds: float | None = None
) -> access_pb.CreateTokenResponse:
    """A token that the service has made."""
    request = access_pb.CreateTokenRequest(role=role, owner=owner)
    if seconds is not None:
        request.lifetime.FromMilliseconds(round(1000 * seconds))
    answer: access_pb.CreateTokenResponse = await admin(place).CreateToken(request)
    return answer


async def test_a_created_token_works_at_once_and_says_whose_it_is(place: Place) -> None:
    made = await create(place, access_pb.ROLE_SUBMITTER, "bob")

    who = await AccessServiceStub(place.channel).WhoAmI(
        access_pb.WhoAmIRequest(), metadata=bearer(made.secret)
    )

    assert (who.owner, who.role, who.token) == ("bob", access_pb.ROLE_SUBMITTER, made.token.id)
    listed = (await admin(place).ListTokens(access_pb.ListTokensRequest())).tokens
    assert [token for token in listed if token.id == made.token.id] == [made.token]
    assert made.secret not in str(listed)


async def test_a_revoked_token_ends_live_streams_and_long_calls_at_once(place: Place) -> None:
    made = await create(place, access_pb.ROLE_VIEWER, "bob")
    other = await create(place, access_pb.ROLE_VIEWER, "bob")
    stub = JobServiceStub(place.channel)
    ended, goes_on = (
        stub.WatchJobs(jobs_pb.WatchJobsRequest(), metadata=bearer(token.secret))
        for token in (made, other)
    )
    health = health_pb2_grpc.HealthStub(place.channel).Watch(
        health_pb2.HealthCheckRequest(), metadata=bearer(made.secret)
    )
    await health.read()
    for stream in (ended, goes_on):
        await stream.read()  # a heartbeat: the token's user sees no job

    await admin(place).RevokeToken(access_pb.RevokeTokenRequest(id=made.token.id))

    for stream in (ended, health):
        text = await refused(drained(stream), UNAUTHENTICATED)
        assert f"token {made.token.id}: revoked during the call" in text
    assert await goes_on.read() is not grpc.aio.EOF
    goes_on.cancel()
    code, text = await answer_code(
        place.channel, "/dbp.v1.JobService/ListJobs", bearer(made.secret)
    )
    assert code is UNAUTHENTICATED
    assert f"token {made.token.id} of bob: revoked" in text


async def test_a_stream_ends_when_its_token_expires(place: Place) -> None:
    made = await create(place, access_pb.ROLE_VIEWER, "bob", 0.5)
    stub = JobServiceStub(place.channel)
    stream = stub.WatchJobs(jobs_pb.WatchJobsRequest(), metadata=bearer(made.secret))

    text = await refused(drained(stream), UNAUTHENTICATED)

    assert "expired during the call" in text


async def test_a_token_without_a_role_an_owner_or_a_time_is_refused(place: Place) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert "role" in await refused(create(place, access_pb.ROLE_UNSPECIFIED, "bob"), invalid)
    assert "owner" in await refused(create(place, access_pb.ROLE_VIEWER, ""), invalid)
    for seconds in (0.0, -1.0):
        text = await refused(create(place, access_pb.ROLE_VIEWER, "bob", seconds), invalid)
        assert "lifetime" in text
    revoke = admin(place).RevokeToken(access_pb.RevokeTokenRequest(id="none"))
    await refused(revoke, grpc.StatusCode.NOT_FOUND)


async def drained(stream: Any) -> None:
    """Read a stream to its end or error."""
    async with asyncio.timeout(DEADLINE):
        while await stream.read() is not grpc.aio.EOF:
            pass


async def test_the_audit_log_names_changes_and_refusals_and_no_token(place: Place) -> None:
    (job,) = (await place.service.jobs.ListJobs(jobs_pb.ListJobsRequest())).jobs
    cancel = jobs_pb.CancelJobRequest(name=job.name)
    stub = JobServiceStub(place.channel)
    await stub.CancelJob(cancel, metadata=bearer(place.tokens["owner"]))
    call = stub.CancelJob(cancel, metadata=bearer(place.tokens["submitter"]))
    await refused(call, PERMISSION_DENIED)
    await answer_code(place.channel, "/dbp.v1.JobService/GetJob", bearer(place.tokens["wrong"]))

    text = (place.state / "access" / "audit.log").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    seen = [
        (entry["caller"], entry["token"], entry["method"].rpartition("/")[2], entry["answer"])
        for entry in entries
    ]

    assert seen[-3] == ("me", "owner", "CancelJob", "OK")
    assert seen[-2][0:1] + seen[-2][2:] == ("ann", "CancelJob", "PERMISSION_DENIED")
    assert seen[-1] == ("", "", "GetJob", "UNAUTHENTICATED")
    assert entries[-2]["resource"] == job.name
    assert entries[-2]["from"].startswith("ipv4:127.0.0.1:")
    assert not any(token in text for token in place.tokens.values())
    assert len({entry["request"] for entry in entries}) == len(entries)


async def test_a_method_that_is_not_implemented_is_no_error_of_the_service(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    code, text = await answer_code(
        place.channel, "/grpc.health.v1.Health/List", bearer(place.tokens["viewer"])
    )

    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "/grpc.health.v1.Health/List is not implemented" in text
    assert caplog.text == ""


async def test_a_stranger_holds_no_stream_of_a_run_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "ARRIVAL_SECONDS", 0.1)

    async def nothing() -> AsyncIterator[worker_pb.AttachRequest]:
        await asyncio.sleep(DEADLINE)
        yield worker_pb.AttachRequest()

    call = WorkerServiceStub(place.channel).Attach(
        nothing(), metadata=(("dbp-attempt-secret", "guessed"),)
    )

    text = await refused(call.read(), grpc.StatusCode.UNAVAILABLE)

    assert "had not arrived after" in text


async def test_many_strangers_hold_few_streams_open_and_no_run_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "ARRIVAL_SECONDS", 10 * DEADLINE)
    ended: list[grpc.StatusCode] = []
    released = asyncio.Event()

    async def nothing() -> AsyncIterator[Any]:
        if not released.is_set():
            await released.wait()
        else:
            yield None

    async def stranger(number: int) -> None:
        stub = WorkerServiceStub(place.channel)
        method = stub.Attach if number % 2 else stub.PublishParameters
        call = method(nothing(), metadata=(("dbp-attempt-secret", "guessed"),))
        ended.append(await call.code())

    strangers = [
        asyncio.create_task(stranger(number)) for number in range(OBSERVED_AT_ONCE + 8)
    ]
    await until(lambda: len(ended) == 8)
    assert set(ended) == {grpc.StatusCode.UNAVAILABLE}
    run = await place.service.start()
    assert run.id
    released.set()
    await asyncio.gather(*strangers)
