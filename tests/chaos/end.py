"""The end of a chaos run: wait until every job has ended, collect what the checker needs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc

from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_pb2, parameter_service_pb2
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub
from tests.chaos.connection import address_of, state_name
from tests.chaos.history import CALL, OK, REFUSED, History
from tests.chaos.workload import KINDS, digest_of

CALL_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.5
ENDED: Final = (
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_CANCELLED,
    job_pb2.JOB_STATE_FAILED,
)


@contextlib.contextmanager
def channel_to(state: Path) -> Iterator[grpc.Channel]:
    """Yield a channel to the service of the state folder."""
    with grpc.insecure_channel(address_of(state)) as channel:
        yield channel


def wait_for_ends(state: Path, history: History, seconds: float) -> None:
    """Resume paused jobs and retry failed ones until every job has ended.

    A failed job without a checkpoint has ended. TimeoutError names the jobs that have not.
    """
    deadline = time.monotonic() + seconds
    with channel_to(state) as channel:
        stub = JobServiceStub(channel)
        hopeless: set[str] = set()
        while live := [job for job in jobs_of(stub) if not _has_ended(job, hopeless)]:
            for job in live:
                _continue(stub, history, job, hopeless)
            if time.monotonic() > deadline:
                names = ", ".join(
                    f"{job.name} {state_name(job.state)} at step {job.progress.step}"
                    for job in live
                )
                raise TimeoutError(f"not ended after {seconds:.0f} s: {names}")
            time.sleep(PAUSE_SECONDS)


def _has_ended(job: job_pb2.Job, hopeless: set[str]) -> bool:
    failed = job.state == job_pb2.JOB_STATE_FAILED
    return job.state in ENDED and (not failed or job.name in hopeless)


def _continue(
    stub: JobServiceStub, history: History, job: job_pb2.Job, hopeless: set[str]
) -> None:
    """Resume or retry a job, if it takes that; note those that cannot be retried."""
    about = {"job": job.name, "listed": state_name(job.state), "attempt": job.attempt}
    try:
        if job.state == job_pb2.JOB_STATE_PAUSED:
            operation = "resume"
            history.write(CALL, operation=operation, **about)
            found = stub.ResumeJob(pb.ResumeJobRequest(name=job.name), timeout=CALL_SECONDS).job
        elif job.state == job_pb2.JOB_STATE_FAILED:
            operation = "retry"
            history.write(CALL, operation=operation, **about)
            found = stub.RetryJob(pb.RetryJobRequest(name=job.name), timeout=CALL_SECONDS).job
        else:
            return
    except grpc.RpcError as error:
        history.write(
            REFUSED, operation=operation, code=error.code().name, text=error.details(), **about
        )
        hopeless.add(job.name)
    else:
        history.write(OK, operation=operation, state=state_name(found.state),
                      sequence=found.sequence, **about)  # fmt: skip


def end_of(
    state: Path, digests: Mapping[str, str], known: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """Return every job with its versions and the digest of its final parameters.

    Of those that are not there, the codes that calls for them end with.

    Args:
        state: State folder of the service.
        digests: Of an undisturbed run of each kind of job, by its name.
        known: Name of the spec and request id of the jobs that a client knows; "" where it
            does not know one.
    """
    with channel_to(state) as channel:
        stub, parameters = JobServiceStub(channel), ParameterServiceStub(channel)
        jobs = jobs_of(stub)
        gone = known.keys() - {job.name for job in jobs}
        return {
            "digests": dict(digests),
            "frail": [work.name for work in KINDS if work.frail],
            "jobs": [_described(job, parameters) for job in jobs],
            "gone": {name: _codes(name, *known[name], stub, parameters) for name in gone},
        }


def jobs_of(stub: JobServiceStub) -> list[job_pb2.Job]:
    """Return all jobs."""
    jobs, token = [], ""
    while True:
        page = stub.ListJobs(
            pb.ListJobsRequest(page_size=1000, page_token=token), timeout=CALL_SECONDS
        )
        jobs += page.jobs
        token = page.next_page_token
        if not token:
            return jobs


def description_of(state: Path, job: job_pb2.Job) -> dict[str, Any]:
    """Return one job as ``end_of`` does; grpc.RpcError, OSError, ValueError: no answer."""
    with channel_to(state) as channel:
        return _described(job, ParameterServiceStub(channel))


def _described(job: job_pb2.Job, parameters: ParameterServiceStub) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": job.name,
        "spec_name": job.spec.name,
        "state": state_name(job.state),
        "attempt": job.attempt,
        "failure": job.failure.message,
        "checkpoint_step": job.failure.checkpoint_step,
        "versions": _versions(job.name, parameters),
    }
    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        found["digest"] = digest_of(_parameters(job.name, parameters))
    return found


def _versions(name: str, parameters: ParameterServiceStub) -> list[dict[str, Any]]:
    versions, token = [], ""
    while True:
        request = parameter_service_pb2.ListVersionsRequest(
            job=name, page_size=1000, page_token=token
        )
        page = parameters.ListVersions(request, timeout=CALL_SECONDS)
        for entry in page.versions:
            version = entry.version
            versions.append({
                "version": version.version, "step": version.step, "digest": version.digest,
                "previous_digest": version.previous_digest, "rollbacks": version.rollbacks,
            })  # fmt: skip
        token = page.next_page_token
        if not token:
            return versions


def _parameters(name: str, parameters: ParameterServiceStub) -> bytes:
    """Return the newest version's safetensors file."""
    request = parameter_service_pb2.StreamParametersRequest()
    request.selector.job = name
    messages = parameters.StreamParameters(request, timeout=CALL_SECONDS)
    return b"".join(
        message.chunk.data for message in messages if message.WhichOneof("payload") == "chunk"
    )


def _codes(
    name: str,
    spec_name: str,
    request_id: str,
    stub: JobServiceStub,
    parameters: ParameterServiceStub,
) -> dict[str, str]:
    """Return the code of each call for a job that is not there."""
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: stub.GetJob(pb.GetJobRequest(name=name), timeout=CALL_SECONDS),
        "versions": lambda: _versions(name, parameters),
        "parameters": lambda: _parameters(name, parameters),
        "watch": lambda: list(
            stub.WatchJobs(pb.WatchJobsRequest(name=name), timeout=CALL_SECONDS)
        ),
        "logs": lambda: list(
            stub.StreamLogs(pb.StreamLogsRequest(name=name), timeout=CALL_SECONDS)
        ),
        "delete": lambda: stub.DeleteJob(pb.DeleteJobRequest(name=name), timeout=CALL_SECONDS),
    }
    works = [work for work in KINDS if work.name == spec_name]
    if request_id and works:
        request = pb.CreateJobRequest(
            spec=spec_to_proto(works[0].document()),
            workers=works[0].ranks,
            request_id=request_id,
        )
        calls["submit"] = lambda: stub.CreateJob(request, timeout=CALL_SECONDS)
    return {operation: _code(call) for operation, call in calls.items()}


def _code(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
