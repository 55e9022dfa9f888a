"""Read a job spec as a Python program gives it: a file, a document or a JobSpec."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from dbp.errors import InvalidArgument, InvalidType
from dbp.job.spec.check import check
from dbp.job.spec.document import document_of
from dbp.job.spec.fields import shown
from dbp.job.spec.files import expand_files
from dbp.job.spec.job_spec import JobSpec
from dbp.job.spec.load import located, parse_file
from dbp.job.spec.resolve import resolve

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
    given: object = spec
    if not isinstance(given, Mapping | JobSpec):
        got = (
            type(given).__name__ if given is None else f"{type(given).__name__} {shown(given)}"
        )
        wanted = "the path of a file, a mapping or a JobSpec"
        raise InvalidType(f"spec: must be {wanted}, got {got}")
    document = document_of(spec) if isinstance(spec, JobSpec) else copy.deepcopy(dict(spec))
    if problems := expand_files(document, Path.cwd(), os.environ):
        check(document, problems)
    return document


def checked_document(spec: Spec) -> object:
    """Return the document of a valid spec; raises the errors of ``read_document``."""
    document = read_document(spec)
    with errors_located(spec):
        resolve(document)
    return document


def errors_located(spec: Spec) -> contextlib.AbstractContextManager[None]:
    """Return a context in which errors in a spec file name it, and the line."""
    if isinstance(spec, str | os.PathLike):
        return located(spec)
    return contextlib.nullcontext()
