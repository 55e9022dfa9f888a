"""Answers that stay below gRPC's limit on a message: pages, and jobs without their spec."""

from __future__ import annotations

from typing import Final, Generic, TypeVar, final

from google.protobuf.message import Message

from dbp.job.state import Job
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.job_convert import job_to_proto
from dbp.v1 import job_pb2

T = TypeVar("T", bound=Message)

# Bytes around a message in a repeated field: its tag and its length.
FRAME_BYTES: Final = 6


@final
class AnswerPage(Generic[T]):
    """Collect the messages of one answer until their bytes reach the limit."""

    def __init__(self, limit: int = MAX_ANSWER_BYTES) -> None:
        self.messages: list[T] = []
        self._left = limit

    def add(self, message: T) -> bool:
        """Add a message if it fits, as the first one always does; return whether it did."""
        self._left -= message.ByteSize() + FRAME_BYTES
        if self.messages and self._left < 0:
            return False
        self.messages.append(message)
        return True


def job_answer(job: Job) -> job_pb2.Job:
    """Return the job as proto, without its spec where one message could not hold both.

    Of the spec of a deleted job only the name is stored.
    """
    proto = job_to_proto(job)
    proto.spec_omitted = job.spec.keys() <= {"name"}
    if proto.ByteSize() + FRAME_BYTES > MAX_ANSWER_BYTES:
        proto.spec.CopyFrom(job_pb2.JobSpec(name=proto.spec.name))
        proto.spec_omitted = True
    return proto
