"""Load the job spec that a caller gives as a file, a document or a JobSpec."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from dbp.client.arguments import wrong_type
from dbp.errors import InvalidArgument
from dbp.job.files import expand_files
from dbp.job.load import decode, encode, load_file, located
from dbp.job.spec import JobSpec

Spec: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | JobSpec


def load_spec(spec: Spec) -> JobSpec:
    """Return the spec; file names in a document are relative to the current folder.

    Raises InvalidSpec, InvalidArgument, InvalidType.
    """
    if isinstance(spec, str) and "\n" in spec:
        raise InvalidArgument(
            "spec: a str is the path of a file, got text of several lines; "
            "pass tomllib.loads(text) instead"
        )
    if isinstance(spec, str | os.PathLike):
        return load_file(spec)
    if not isinstance(spec, Mapping | JobSpec):
        raise wrong_type("spec", "the path of a file, a mapping or a JobSpec", spec)
    document = encode(spec) if isinstance(spec, JobSpec) else copy.deepcopy(dict(spec))
    return decode(document, "", expand_files(document, Path.cwd(), os.environ))


def errors_located(spec: Spec) -> contextlib.AbstractContextManager[None]:
    """Return a context in which errors in a spec file name it, and the line."""
    if isinstance(spec, str | os.PathLike):
        return located(spec)
    return contextlib.nullcontext()
