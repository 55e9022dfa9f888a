"""The spec and the figures of training that a command names: a run folder's, or a job's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.source import Source, source_of
from dbp.errors import InvalidFile
from dbp.json_value import JsonObject
from dbp.plot.curves import CurveSource
from dbp.plot.job_source import job_source
from dbp.plot.run_source import run_source
from dbp.train.report.run_files import SPEC

if TYPE_CHECKING:
    from dbp.client.client import Client


@dataclass(frozen=True)
class Figures:
    """The curves of a run or job, and the document of its resolved spec."""

    curves: CurveSource
    spec: JsonObject


def read_figures(names: Sequence[str], service: str) -> list[Figures]:
    """Return the figures that arguments name, each of them once.

    The service is asked only if one of them is a job. Raises InvalidInput for a folder without
    a run and where there are no metrics yet, InvalidFile, and what the service raises.
    """
    with ExitStack() as stack:
        client: Client | None = None
        found = []
        for source in map(source_of, dict.fromkeys(names)):
            if source.path is not None:
                found.append(_of_run(source.path))
                continue
            with source.asking():
                client = client or stack.enter_context(connect(service))
                found.append(_of_job(client, source))
    return found


def _of_run(folder: Path) -> Figures:
    curves = run_source(folder)
    path = folder / SPEC
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidFile(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise InvalidFile(f"{path}: must hold a spec, got {type(document).__name__}")
    return Figures(curves, document)


def _of_job(client: Client, source: Source) -> Figures:
    handle = find_job(client, source.text)
    return Figures(job_source(handle), handle.get().spec)
