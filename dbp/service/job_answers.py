"""Answers with a job that stay below gRPC's message limit."""

from __future__ import annotations

from dbp.job.state import Job
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.job_convert import job_to_proto
from dbp.service.answer_page import FRAME_BYTES
from dbp.v1 import job_pb2


def job_answer(job: Job) -> job_pb2.Job:
    """Return the job as proto, without its spec where one message could not hold both."""
    proto = job_to_proto(job)
    if proto.ByteSize() + FRAME_BYTES > MAX_ANSWER_BYTES:
        proto.spec.CopyFrom(job_pb2.JobSpec(name=proto.spec.name))
        proto.spec_omitted = True
    return proto
