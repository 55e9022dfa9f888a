"""Return the document of the job spec that a caller gives as a file, a dict or a JobSpec."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from dbp.client.arguments import wrong_type
from dbp.errors import InvalidArgument
from dbp.job.check import check
from dbp.job.files import expand_files
from dbp.job.load import located, parse_file
from dbp.job.spec import JobSpec, document_of

Spec: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | JobSpec


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
