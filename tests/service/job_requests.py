"""Requests of JobService, and the order and ends of its streams."""

from __future__ import annotations

import grpc

from dbp.rpc.enums import event_kind_from_proto
from dbp.v1 import job_pb2, stream_pb2
from dbp.v1 import job_service_pb2 as pb

Code = grpc.StatusCode


def end_of(message: pb.WatchJobsResponse | pb.StreamLogsResponse) -> str:
    name = stream_pb2.StreamEndReason.Name(message.end.reason)
    return name.removeprefix("STREAM_END_REASON_").lower()


def events(messages: list[pb.WatchJobsResponse]) -> list[str]:
    """The messages of a watch as text; without progress, of which there may be any number."""
    told = []
    for message in messages:
        match message.WhichOneof("event"):
            case "snapshot":
                told.append(f"snapshot {job_pb2.JobState.Name(message.snapshot.state)}")
            case "change":
                told.append(event_kind_from_proto(message.change.kind))
            case "end":
                told.append(f"end {end_of(message)}")
    return told
