"""The validated result of a job spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbp.rpc.spec_convert import known_spec
from dbp.v1 import job_pb2


@dataclass(frozen=True)
class ValidatedJob:
    """A job that the service would accept; it was neither stored nor started.

    Attributes:
        spec: The spec with every default filled in, as a document.
        spec_digest: SHA-256 of the spec as canonical JSON, in hexadecimal.
        workers: MPI processes.
        notes: Sentences on the spec and the data, such as columns that are left out.
    """

    spec: Mapping[str, Any]
    spec_digest: str
    workers: int
    notes: tuple[str, ...]


def validated_job(proto: job_pb2.Job) -> ValidatedJob:
    """Return the result that an answer of CreateJob with validate_only holds."""
    spec = known_spec(proto.spec)
    return ValidatedJob(spec, proto.spec_digest, proto.workers, tuple(proto.notes))
