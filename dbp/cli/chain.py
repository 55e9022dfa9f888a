"""Verify the chain of a job's versions, from the newest back to the oldest on record.

Each version names the digest of the version before it. Numbers are missing where versions are
no longer on record, and where a backup was restored: a restored job passes over
``LOST_VERSIONS`` numbers, and its next version names the newest one in the backup.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbp.backup.restoring import LOST_VERSIONS
from dbp.cli.params.proof import proof_of
from dbp.errors import DbpError, OutOfRange, Unavailable
from dbp.job.best import restores_best
from dbp.job.spec.resolve import digest_of

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.job.state import Job, Version


@dataclass(frozen=True)
class Chain:
    """Result: ``links`` versions on record, ``read`` of them verified byte by byte.

    ``notes``: missing numbers, and parts that cannot be verified, because nothing is on record.
    ``unlinked``: versions on record, not the oldest, whose link to the one before is unknown.
    """

    job: str
    oldest: int
    newest: int
    links: int
    read: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unlinked: int = 0


def follow_chain(handle: JobHandle) -> Chain:
    """Check every version on record, and read those that are kept; NotPublishedYet."""
    job = handle.get()
    entries = list(handle.versions())
    if not entries:
        handle.parameters()  # raises the reason
        entries = list(handle.versions())  # the first has come just now
    versions = [entry.version for entry in entries]
    problems = [*_of_job(job), *_of_links(job, versions)]
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
            continue  # deleted meanwhile, as newer ones were published
        except Unavailable:
            raise
        except DbpError as error:
            problems.append(str(error))
    return Chain(
        job=handle.id,
        oldest=versions[-1].version,
        newest=versions[0].version,
        links=len(entries),
        read=read,
        problems=tuple(problems),
        notes=(*_gaps(versions), *_unknown_digests(versions)),
        unlinked=sum(
            after.previous_digest != before.digest
            for after, before in itertools.pairwise(versions)
        ),
    )


def _of_job(job: Job) -> Iterator[str]:
    found = digest_of(job.spec)
    if found != job.spec_digest:
        yield f"the job's spec has the digest {found}, but {job.spec_digest} is on record"


def _place(version: Version) -> tuple[int, int]:
    """Return a key that never falls from one version to the next.

    An attempt that resumes a job publishes nothing until it has passed the newest version.
    """
    return version.rollbacks, version.step


def _goes_back_to_best(job: Job, after: Version, before: Version) -> bool:
    """Whether a final version may be of an earlier step, that of the best epoch."""
    same_pass = after.rollbacks == before.rollbacks
    return after.final and same_pass and restores_best(job.spec)


def _of_links(job: Job, versions: list[Version]) -> Iterator[str]:
    """Return the faults between one version and the next, newest first."""
    for version in versions:
        if version.spec_digest not in ("", job.spec_digest):
            yield (
                f"version {version.version}: names the spec digest {version.spec_digest}, but "
                f"the job's is {job.spec_digest}"
            )
    for after, before in itertools.pairwise(versions):
        name = f"version {after.version}"
        follows = _is_next(after.version, before.version)
        if follows and after.previous_digest not in ("", before.digest):
            number = "" if after.version == before.version + 1 else f", {before.version}"
            yield (
                f"{name}: names {after.previous_digest} as the digest of the version before "
                f"it{number}, but that is {before.digest}"
            )
        if after.attempt < before.attempt:
            yield (
                f"{name}: of attempt {after.attempt}, but version {before.version} is of "
                f"attempt {before.attempt}"
            )
        elif _place(after) < _place(before) and not _goes_back_to_best(job, after, before):
            yield (
                f"{name}: step {after.step} is lower than step {before.step} of version "
                f"{before.version}"
            )
    oldest = versions[-1]
    if _is_next(oldest.version, 0) and oldest.previous_digest:
        yield (
            f"version {oldest.version}: names a version before it ({oldest.previous_digest}), "
            "but is first"
        )


def _is_next(after: int, before: int) -> bool:
    """Whether no version can have had a number in between (``before``: 0 for no version).

    Restores that follow each other pass over a multiple of the numbers.
    """
    return after > before and (after - before - 1) % LOST_VERSIONS == 0


def _gaps(versions: list[Version]) -> Iterator[str]:
    """Return the missing numbers, newest first, and whether a link leads across them."""
    for after, before in itertools.pairwise(versions):
        if after.version == before.version + 1:
            continue
        missing = _span(range(before.version + 1, after.version))
        ends = f"version {after.version} names the digest of version {before.version}"
        if after.previous_digest == before.digest:
            yield f"{missing}: never published, passed over by a restore of a backup; {ends}"
        elif _is_next(after.version, before.version):
            yield f"{missing}: never published, passed over by a restore of a backup"
        else:
            yield f"{missing}: no longer on record; it is unknown whether {ends}"
    oldest = versions[-1]
    if oldest.version > 1:
        missing = _span(range(1, oldest.version))
        passed = "never published, passed over by a restore of a backup without versions"
        yield f"{missing}: {passed if _is_first(oldest) else 'no longer on record'}"


def _is_first(version: Version) -> bool:
    """Whether a job published this version first."""
    return _is_next(version.version, 0) and not version.previous_digest


def _unknown_digests(versions: list[Version]) -> Iterator[str]:
    """Return the versions that an older dbp published without digests: not to be verified."""
    for text, unknown in (
        (
            "the version before",
            [v for v in versions if not v.previous_digest and not _is_first(v)],
        ),
        ("the spec", [v for v in versions if not v.spec_digest]),
    ):
        if unknown:
            numbers = sorted(version.version for version in unknown)
            count = (
                f", {len(numbers)} in all"
                if len(numbers) < numbers[-1] - numbers[0] + 1
                else ""
            )
            yield f"{_span(numbers)}{count}: no digest of {text} is on record"


def _span(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    return f"version {first}" if first == last else f"versions {first} to {last}"
