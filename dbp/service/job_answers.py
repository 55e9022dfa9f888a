"""Answers with jobs that stay below gRPC's message limit: a page of them, or one."""

from __future__ import annotations

from typing import Final, final

from dbp.job.state import Job
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.convert import job_to_proto
from dbp.v1 import job_pb2

# Bytes around a job in a repeated field: its tag and its length.
_FRAME_BYTES: Final = 6


def job_answer(job: Job) -> job_pb2.Job:
    """Return the job as proto, without its spec where one message could not hold both."""
    proto = job_to_proto(job)
    if proto.ByteSize() + _FRAME_BYTES > MAX_ANSWER_BYTES:
        proto.spec.CopyFrom(job_pb2.JobSpec(name=proto.spec.name))
        proto.spec_omitted = True
    return proto


@final
class JobPage:
    """Collect the jobs of one answer until their bytes reach the limit."""

    def __init__(self, limit: int = MAX_ANSWER_BYTES) -> None:
        self.jobs: list[job_pb2.Job] = []
        self._left = limit

    def add(self, job: Job) -> bool:
        """Add a job if it fits, as the first one always does; return whether it was added."""
        proto = job_answer(job)
        self._left -= proto.ByteSize() + _FRAME_BYTES
        if self.jobs and self._left < 0:
            return False
        self.jobs.append(proto)
        return True
