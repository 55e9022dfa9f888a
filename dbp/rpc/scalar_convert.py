"""Convert names of jobs, times and text to fields of protos and back."""

from __future__ import annotations

import math
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from dbp.errors import InvalidInput

JOB_PREFIX: Final = "jobs/"


def job_name(job_id: str) -> str:
    """Return the resource name of a job."""
    return JOB_PREFIX + job_id


def id_from_name(name: str, field: str = "name") -> str:
    """Return the id in a resource name; raises InvalidInput, which names the ``field``."""
    job_id = name.removeprefix(JOB_PREFIX)
    if not name.startswith(JOB_PREFIX) or not job_id or "/" in job_id:
        raise InvalidInput(f"{field}: a job is named jobs/ID, got {name!r}")
    return job_id


def time_to_proto(seconds: float) -> Timestamp:
    """Return Unix seconds as a Timestamp; today's times convert back to the same float."""
    whole = math.floor(seconds)
    stamp = Timestamp()
    stamp.FromNanoseconds(whole * 10**9 + round((seconds - whole) * 1e9))
    return stamp


def time_from_proto(stamp: Timestamp) -> float:
    """Return a Timestamp as Unix seconds."""
    return stamp.seconds + stamp.nanos / 1e9
