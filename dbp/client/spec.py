"""Job specs: a file, document or JobSpec that a caller gives, and the validated result."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dbp.client.arguments import wrong_type
from dbp.errors import InvalidArgument
from dbp.job.spec.check import check
from dbp.job.spec.document import document_of
from dbp.job.spec.files import expand_files
from dbp.job.spec.job_spec import JobSpec
from dbp.job.spec.load import located, parse_file
from dbp.rpc.spec_convert import known_spec
from dbp.v1 import job_pb2

Spec: TypeAlias = str | os.PathLike[str] | Mapping[str, object] | JobSpec


def read_document(spec: Spec) -> object:
    """Return the document, not yet checked; its file names are made absolute.

    They are relative to the folder of the file, or else to the current one. Raises InvalidSpec,
    InvalidArgument, InvalidType.
    """
    if isinstance(spec, str) and "\n" in spec:
        raise InvalidArgument(
            "spec: a str is the path of a file, got text of several lines; "
            "pass tomllib.loads(text) instead"
        )
    if isinstance(spec, str | os.PathLike):
        return parse_file(spec)
    if not isinstance(spec, Mapping | JobSpec):
        raise wrong_type("spec", "the path of a file, a mapping or a JobSpec", spec)
    document = document_of(spec) if isinstance(spec, JobSpec) else copy.deepcopy(dict(spec))
    if problems := expand_files(document, Path.cwd(), os.environ):
        check(document, problems)
    return document


def errors_located(spec: Spec) -> contextlib.AbstractContextManager[None]:
    """Return a context in which errors in a spec file name it, and the line."""
    if isinstance(spec, str | os.PathLike):
        return located(spec)
    return contextlib.nullcontext()


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
