"""The end of a chaos run: wait until every job has ended, collect what the checker needs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc

from dbp.v1 import job_pb2, parameter_service_pb2
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub
from tests.chaos.workload import digest_of

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
    address = json.loads((state / "service.json").read_text())["address"]
    with grpc.insecure_channel(address) as channel:
        yield channel


def wait_for_ends(state: Path, seconds: float) -> None:
    """Resume paused jobs until every job has ended; TimeoutError names those that have not."""
    deadline = time.monotonic() + seconds
    with channel_to(state) as channel:
        stub = JobServiceStub(channel)
        while live := [job for job in jobs_of(stub) if job.state not in ENDED]:
            for job in live:
                if job.state == job_pb2.JOB_STATE_PAUSED:
                    stub.ResumeJob(pb.ResumeJobRequest(name=job.name), timeout=CALL_SECONDS)
            if time.monotonic() > deadline:
                names = ", ".join(
                    f"{job.name} {job_pb2.JobState.Name(job.state)} at step {job.progress.step}"
                    for job in live
                )
                raise TimeoutError(f"not ended after {seconds:.0f} s: {names}")
            time.sleep(PAUSE_SECONDS)


def end_of(state: Path, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return every job with its versions and the digest of its final parameters."""
    with channel_to(state) as channel:
        jobs, parameters = JobServiceStub(channel), ParameterServiceStub(channel)
        return {
            "digests": dict(digests),
            "jobs": [_described(job, parameters) for job in jobs_of(jobs)],
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


def _described(job: job_pb2.Job, parameters: ParameterServiceStub) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": job.name,
        "spec_name": job.spec.name,
        "state": job_pb2.JobState.Name(job.state),
        "attempt": job.attempt,
        "failure": job.failure.message,
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
