"""Jobs belong to those who submit them: others see, read, change and predict with none."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.access.principal import CALLER, Principal
from dbp.access.roles import METHODS, Role
from dbp.access.tokens import TokenStore
from dbp.errors import JobNotFound
from dbp.inference import open_inference_pb2 as inference_pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.job.state import Job, State
from dbp.rpc.channel import connect
from dbp.rpc.credentials import Credentials
from dbp.rpc.spec_convert import spec_to_proto
from dbp.service.job_access import JobAccess, visible
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub
from tests.service.inference.setups import constant, drawn, publish
from tests.service.setups import (
    Run,
    Service,
    document,
    refused,
    selector,
    serving,
    tensors,
    until,
)

DENIED = grpc.StatusCode.PERMISSION_DENIED
CALLERS = {
    "ann": ("ann", Role.SUBMITTER),
    "ann reads": ("ann", Role.VIEWER),
    "bob": ("bob", Role.SUBMITTER),
    "admin": ("carol", Role.ADMIN),
}


class Caller:
    """One user's stubs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.jobs = JobServiceStub(channel)
        self.parameters = ParameterServiceStub(channel)
        self.inference = GRPCInferenceServiceStub(channel)

    async def listed(self) -> list[str]:
        """Names of the jobs that he sees."""
        return [job.name for job in (await self.jobs.ListJobs(jobs_pb.ListJobsRequest())).jobs]


@dataclass
class Place:
    """A service with a private and a shared job of ann's, both running."""

    service: Service
    callers: dict[str, Caller]
    private: Run
    shared: Run


async def submitted(service: Service, caller: Caller, **changes: Any) -> Run:
    """A job of the caller's that runs and has published version 1."""
    request = jobs_pb.CreateJobRequest(spec=spec_to_proto(document(**changes)))
    job_id = (await caller.jobs.CreateJob(request)).job.name.removeprefix("jobs/")
    await until(lambda: job_id in service.launcher.runs)
    run = service.run_of(job_id)
    await run.attach()
    await run.publish(1, tensors())
    return run


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    state = tmp_path / "state"
    state.mkdir(0o700)
    store = TokenStore(state / "access", "me")
    made = {name: store.create(role, owner)[0] for name, (owner, role) in CALLERS.items()}
    async with serving(state) as service, AsyncExitStack() as stack:
        callers = {
            name: Caller(
                await stack.enter_async_context(
                    connect(service.address, Credentials(token=token))
                )
            )
            for name, token in made.items()
        }
        private = await submitted(service, callers["ann"])
        shared = await submitted(service, callers["ann"], visibility="shared")
        yield Place(service, callers, private, shared)


READS: dict[str, Callable[[Caller, str], Awaitable[Any]]] = {
    "GetJob": lambda c, j: c.jobs.GetJob(jobs_pb.GetJobRequest(name=f"jobs/{j}")),
    "WatchJobs": lambda c, j: c.jobs.WatchJobs(
        jobs_pb.WatchJobsRequest(name=f"jobs/{j}")
    ).read(),
    "StreamLogs": lambda c, j: c.jobs.StreamLogs(
        jobs_pb.StreamLogsRequest(name=f"jobs/{j}")
    ).read(),
    "QueryMetrics": lambda c, j: c.jobs.QueryMetrics(
        jobs_pb.QueryMetricsRequest(jobs=[f"jobs/{j}"])
    ),
    "GetParameterInfo": lambda c, j: c.parameters.GetParameterInfo(
        pb.GetParameterInfoRequest(selector=selector(j))
    ),
    "GetParameters": lambda c, j: c.parameters.GetParameters(
        pb.GetParametersRequest(selector=selector(j))
    ),
    "StreamParameters": lambda c, j: c.parameters.StreamParameters(
        pb.StreamParametersRequest(selector=selector(j))
    ).read(),
    "WatchParameters": lambda c, j: c.parameters.WatchParameters(
        pb.WatchParametersRequest(job=f"jobs/{j}")
    ).read(),
    "ListVersions": lambda c, j: c.parameters.ListVersions(
        pb.ListVersionsRequest(job=f"jobs/{j}")
    ),
    "ListLabels": lambda c, j: c.parameters.ListLabels(pb.ListLabelsRequest(job=f"jobs/{j}")),
    "ModelStatistics": lambda c, j: c.inference.ModelStatistics(
        inference_pb.ModelStatisticsRequest(name=j)
    ),
}
CHANGES: dict[str, Callable[[Caller, str], Awaitable[Any]]] = {
    "MoveLabel": lambda c, j: c.parameters.MoveLabel(
        pb.MoveLabelRequest(job=f"jobs/{j}", label="good", version=1)
    ),
    "UndoLabel": lambda c, j: c.parameters.UndoLabel(
        pb.UndoLabelRequest(job=f"jobs/{j}", label="good")
    ),
    "PinVersion": lambda c, j: c.parameters.PinVersion(
        pb.PinVersionRequest(job=f"jobs/{j}", version=1, pinned=True)
    ),
    "CancelJob": lambda c, j: c.jobs.CancelJob(jobs_pb.CancelJobRequest(name=f"jobs/{j}")),
}
OWN_STATE: dict[str, Callable[[Caller, str], Awaitable[Any]]] = {
    "PauseJob": lambda c, j: c.jobs.PauseJob(jobs_pb.PauseJobRequest(name=f"jobs/{j}")),
    "ResumeJob": lambda c, j: c.jobs.ResumeJob(jobs_pb.ResumeJobRequest(name=f"jobs/{j}")),
    "RetryJob": lambda c, j: c.jobs.RetryJob(jobs_pb.RetryJobRequest(name=f"jobs/{j}")),
    "PublishVersion": lambda c, j: c.parameters.PublishVersion(
        pb.PublishVersionRequest(job=f"jobs/{j}")
    ),
    "DeleteJob": lambda c, j: c.jobs.DeleteJob(jobs_pb.DeleteJobRequest(name=f"jobs/{j}")),
    "ModelReady": lambda c, j: c.inference.ModelReady(inference_pb.ModelReadyRequest(name=j)),
    "ModelMetadata": lambda c, j: c.inference.ModelMetadata(
        inference_pb.ModelMetadataRequest(name=j)
    ),
    "ModelConfig": lambda c, j: c.inference.ModelConfig(
        inference_pb.ModelConfigRequest(name=j)
    ),
    "ModelInfer": lambda c, j: c.inference.ModelInfer(
        inference_pb.ModelInferRequest(model_name=j)
    ),
}


# Methods that name no job: of a caller himself, of the service, or refused for the role.
NAMELESS = {
    "AccessService": {"WhoAmI", "CreateToken", "ListTokens", "RevokeToken"},
    "AdminService": {"BeginDrain", "EndDrain", "StageBackup"},
    "JobService": {"CreateJob", "ListJobs", "ListComponents"},
    "WorkerService": {"RegisterRun", "Attach", "PublishParameters"},
    "GRPCInferenceService": {"ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex"},
    "Health": {"Check", "List", "Watch"},
    "ServerReflection": {"ServerReflectionInfo"},
}


def test_every_method_either_names_no_job_or_is_called_for_the_job_of_another_user() -> None:
    named = {*READS, *CHANGES, *OWN_STATE}
    for path in METHODS:
        service, method = path.removeprefix("/").split("/")
        nameless = NAMELESS.get(service.rpartition(".")[2], set())
        assert (method in nameless) != (method in named), path


@pytest.mark.parametrize(("owner", "found"), [("ann", True), ("bob", False)])
async def test_a_deleted_job_is_that_of_its_owner_alone(owner: str, found: bool) -> None:
    """So that he can repeat a request whose answer was lost; others learn nothing of it."""

    async def get(job_id: str) -> Job:
        raise JobNotFound(f"job {job_id} was deleted")

    async def get_deleted(job_id: str) -> Job:
        return Job(job_id, {"name": "old"}, "", 1, State.FAILED, 0.0, owner="ann")

    access = JobAccess(get, get_deleted)
    before = CALLER.set(Principal(owner, Role.SUBMITTER, "ipv4:127.0.0.1:9"))
    try:
        if found:
            assert await access.deletable("jobs/old-1") == "old-1"
        else:
            with pytest.raises(JobNotFound, match="there is no such job"):
                await access.deletable("jobs/old-1")
        why = "was deleted" if found else "there is no such job"
        for check in (access.readable, access.changeable):
            with pytest.raises(JobNotFound, match=why):
                await check("jobs/old-1")
    finally:
        CALLER.reset(before)


async def test_a_deleted_job_of_another_user_is_as_one_that_never_was(place: Place) -> None:
    """Also where the service still remembers whose job it was."""
    ann, bob = place.callers["ann"], place.callers["bob"]
    await place.private.end()
    await refused(
        bob.jobs.GetJob(jobs_pb.GetJobRequest(name=f"jobs/{place.private.id}")), DENIED
    )
    name = f"jobs/{place.private.id}"
    watched = ann.jobs.WatchJobs(jobs_pb.WatchJobsRequest(name=name))
    token = [message.resume_token async for message in watched][-1]
    await ann.jobs.DeleteJob(jobs_pb.DeleteJobRequest(name=name, request_id="d"))

    for method, call in {**READS, **CHANGES, **OWN_STATE}.items():
        code = grpc.StatusCode.NOT_FOUND
        if method == "ModelReady":  # answers that it is not ready
            assert await call(bob, place.private.id) == await call(bob, "digits-none")
            continue
        texts = [
            (await refused(call(bob, job_id), code)).replace(job_id, "ID")
            for job_id in (place.private.id, "digits-none")
        ]
        gone, never = (re.split(", did you mean|; `dbp jobs`", text)[0] for text in texts)
        assert gone == never, method
    resumed = jobs_pb.WatchJobsRequest(name=name, resume_token=token)
    assert "there is no such job" in await refused(
        bob.jobs.WatchJobs(resumed).read(), grpc.StatusCode.NOT_FOUND
    )
    assert [message async for message in ann.jobs.WatchJobs(resumed)][-1].HasField("end")
    again = jobs_pb.DeleteJobRequest(name=name, request_id="d")
    assert "there is no such job" in await refused(
        bob.jobs.DeleteJob(again), grpc.StatusCode.NOT_FOUND
    )
    assert (await ann.jobs.DeleteJob(again)).job.name == name


async def test_a_job_without_an_owner_is_not_the_job_of_a_caller_without_a_name() -> None:
    """Such jobs are of services before there were owners; such callers need no credential."""
    job = Job("old-1", {"visibility": "private"}, "", 1, State.QUEUED, 0.0)

    async def get(job_id: str) -> Job:
        return job

    before = CALLER.set(Principal("", Role.VIEWER, "ipv4:127.0.0.1:9"))
    try:
        assert not visible(job)
        assert not await JobAccess(get, get).sees("old-1")
    finally:
        CALLER.reset(before)


async def test_a_private_job_is_refused_to_others_by_every_method_that_names_one(
    place: Place,
) -> None:
    bob, job = place.callers["bob"], place.private.id

    for name, call in {**READS, **CHANGES, **OWN_STATE}.items():
        text = await refused(call(bob, job), DENIED)
        assert f"job {job} is a private job of another user" in text, name

    assert (await place.service.get(job)).state == job_pb2.JOB_STATE_RUNNING


@pytest.mark.parametrize("caller", ["ann", "ann reads", "admin"])
async def test_its_owner_and_admins_read_a_private_job(place: Place, caller: str) -> None:
    for name, call in READS.items():
        assert await call(place.callers[caller], place.private.id) is not None, name


@pytest.mark.parametrize("caller", ["ann", "admin"])
async def test_its_owner_and_admins_change_a_private_job(place: Place, caller: str) -> None:
    for call in CHANGES.values():
        await call(place.callers[caller], place.private.id)


async def test_others_read_and_change_a_shared_job_and_do_not_delete_it(place: Place) -> None:
    bob, job = place.callers["bob"], place.shared.id

    for call in {**READS, **CHANGES}.values():
        await call(bob, job)
    await place.shared.end()

    text = await refused(OWN_STATE["DeleteJob"](bob, job), DENIED)
    assert "a shared job of another user: you may not delete it" in text
    await OWN_STATE["DeleteJob"](place.callers["ann"], job)


async def test_lists_watches_and_models_show_only_what_a_caller_may_see(place: Place) -> None:
    private, shared = f"jobs/{place.private.id}", f"jobs/{place.shared.id}"
    everything = {"ann": [shared, private], "admin": [shared, private], "bob": [shared]}
    for name, expected in everything.items():
        caller = place.callers[name]
        assert await caller.listed() == expected
        index = await caller.inference.RepositoryIndex(inference_pb.RepositoryIndexRequest())
        assert [f"jobs/{model.name}" for model in index.models] == expected

    watch = place.callers["bob"].jobs.WatchJobs(jobs_pb.WatchJobsRequest())
    first = await watch.read()
    await place.private.progress(2, 3)
    await place.private.end()
    await place.shared.progress(2)
    await place.shared.end()
    seen = {first.snapshot.name}
    while shared_end := await watch.read():
        if shared_end.WhichOneof("event") == "change":
            seen.add(shared_end.change.job.name)
            if shared_end.change.kind == jobs_pb.JOB_EVENT_KIND_SUCCEEDED:
                break
        elif shared_end.WhichOneof("event") == "progress":
            seen.add(shared_end.progress.job)
    watch.cancel()
    assert seen - {""} == {shared}


async def test_figures_of_models_are_shown_to_those_who_may_see_the_job(place: Place) -> None:
    tensors, strings = drawn(constant()), constant()
    ann = place.callers["ann"]
    for run in (place.private, place.shared):
        await publish(place.service, run, 2, tensors, strings)
        await refused(  # which counts
            ann.inference.ModelInfer(inference_pb.ModelInferRequest(model_name=run.id)),
            grpc.StatusCode.INVALID_ARGUMENT,
        )

    async def names(caller: str) -> set[str]:
        request = inference_pb.ModelStatisticsRequest()
        answer = await place.callers[caller].inference.ModelStatistics(request)
        return {figures.name for figures in answer.model_stats}

    assert await names("ann") == await names("admin") == {place.private.id, place.shared.id}
    assert await names("bob") == {place.shared.id}


async def test_pages_are_full_though_jobs_between_are_hidden(place: Place) -> None:
    ann, bob = place.callers["ann"], place.callers["bob"]
    for number in range(6):
        changes = {"visibility": "shared"} if number % 2 else {}
        request = jobs_pb.CreateJobRequest(spec=spec_to_proto(document(**changes)))
        await ann.jobs.CreateJob(request)

    names, token = [], ""
    while True:
        page = await bob.jobs.ListJobs(jobs_pb.ListJobsRequest(page_size=2, page_token=token))
        names += [job.name for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
        assert len(page.jobs) == 2

    assert len(names) == len(set(names)) == 4
    assert names == await bob.listed()


async def test_an_answer_names_the_owner(place: Place) -> None:
    job = (await READS["GetJob"](place.callers["bob"], place.shared.id)).job

    assert job.owner == "ann"


async def test_a_request_id_of_another_user_shows_nothing_of_his_job(place: Place) -> None:
    request = jobs_pb.CreateJobRequest(
        spec=spec_to_proto(document()), request_id=str(uuid.uuid4())
    )
    made = (await place.callers["ann"].jobs.CreateJob(request)).job

    text = await refused(
        place.callers["bob"].jobs.CreateJob(request), grpc.StatusCode.ALREADY_EXISTS
    )

    assert made.name.removeprefix("jobs/") not in text
    assert (await place.callers["ann"].jobs.CreateJob(request)).job.name == made.name


async def test_a_hint_names_no_job_that_the_caller_may_not_see(place: Place) -> None:
    request = inference_pb.ModelMetadataRequest(name=place.private.id[:-1])

    call = place.callers["bob"].inference.ModelMetadata(request)
    text = await refused(call, grpc.StatusCode.NOT_FOUND)

    assert place.private.id not in text
