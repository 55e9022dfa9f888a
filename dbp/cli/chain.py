"""Following the chain of a job's versions, from the newest back to the oldest on record."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbp.cli.params_proof import proof_of
from dbp.errors import DbpError, OutOfRange, Unavailable
from dbp.job.resolved import digest_of

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.job.state import Job, VersionEntry


@dataclass(frozen=True)
class Chain:
    """What was found: ``links`` versions on record, ``read`` of them whose bytes are kept."""

    job: str
    oldest: int
    newest: int
    links: int
    read: int
    problems: tuple[str, ...]


def follow_chain(handle: JobHandle) -> Chain:
    """Judge every version on record, and read those that are kept; NotPublishedYet."""
    job = handle.get()
    entries = list(handle.versions())
    if not entries:
        handle.parameters()  # says why there is none
    problems = [*_of_job(job), *_of_links(job, entries)]
    read = 0
    for entry in entries:
        if not entry.kept:
            continue
        try:
            found = handle.parameters(version=entry.version.version)
            if found is not None:
                proof_of(job, found)
                read += 1
        except OutOfRange:
            continue  # it has given way to newer ones meanwhile
        except Unavailable:
            raise
        except DbpError as error:
            problems.append(str(error))
    return Chain(
        job=handle.id,
        oldest=entries[-1].version.version,
        newest=entries[0].version.version,
        links=len(entries),
        read=read,
        problems=tuple(problems),
    )


def _of_job(job: Job) -> Iterator[str]:
    found = digest_of(job.spec)
    if found != job.spec_digest:
        yield f"the job's spec has the digest {found}, on record is {job.spec_digest}"


def _of_links(job: Job, entries: list[VersionEntry]) -> Iterator[str]:
    """What is wrong between one version and the next, newest first."""
    for entry in entries:
        version = entry.version
        if version.spec_digest != job.spec_digest:
            yield f"version {version.version}: of the spec {version.spec_digest}, not the job's"
    for after, before in itertools.pairwise(entry.version for entry in entries):
        name = f"version {after.version}"
        if after.version != before.version + 1:
            yield f"{name}: the one before it on record is {before.version}"
        if after.previous_digest != before.digest:
            yield f"{name}: names {after.previous_digest} as before it, not {before.digest}"
        if (after.attempt, after.step) < (before.attempt, before.step):
            yield f"{name}: step {after.step} behind step {before.step} of the one before it"
    oldest = entries[-1].version if entries else None
    if oldest is not None and oldest.version == 1 and oldest.previous_digest:
        yield f"version 1: names {oldest.previous_digest} as before it, but it is the first"
