"""Uploads of versions by runs: only live jobs publish; the end of a job waits for them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from dbp.errors import WrongState
from dbp.job.snapshot import Manifest
from dbp.job.spec.job_spec import PublishSpec
from dbp.job.state import Job, RunOutcome, Version
from dbp.jobs.job_table import JobTable
from dbp.json_value import JsonObject
from dbp.versions.file import Chunks
from dbp.versions.publisher import VersionPublisher, VersionUpload

_NO_MANIFEST: Final = Manifest(())


@final
class VersionUploads:
    """Publishes versions of live jobs; counts the uploads under way."""

    def __init__(self, publisher: VersionPublisher, table: JobTable) -> None:
        """Publish through this publisher, for the jobs of this table."""
        self._publisher = publisher
        self._table = table
        self._under_way: Counter[str] = Counter()
        self._quiet = asyncio.Condition()

    async def publish(
        self,
        job_id: str,
        attempt: int,
        *,
        step: int,
        manifest: Manifest,
        chunks: Chunks,
        final: bool = False,
        best: bool = False,
    ) -> Version:
        """Store one version durably; a repeated upload returns the version stored first.

        WrongState: the job has ended, or is at another attempt.
        """
        job = await self._table.get(job_id, attempt)
        upload = self._upload(job, step=step, manifest=manifest, final=final, best=best)
        self._under_way[job.id] += 1  # at once, for a live job: its end waits for the upload
        try:
            if job.state.terminal and await self._publisher.known(upload) is None:
                raise WrongState(f"job {job.id} is {job.state}: it publishes nothing more")
            return await self._publisher.publish(upload, chunks)
        finally:
            self._under_way[job.id] -= 1
            if not self._under_way[job.id]:
                del self._under_way[job.id]
            async with self._quiet:
                self._quiet.notify_all()

    async def publish_left_behind(self, job: Job, path: Path, outcome: RunOutcome) -> None:
        """Publish the final parameters from the run's folder, unless they have arrived."""
        wanted = bool(_publish_table(job).get("best", PublishSpec().best))
        best = outcome.best_restored and wanted
        upload = self._upload(
            job, step=outcome.step, manifest=_NO_MANIFEST, final=True, best=best
        )
        await self._publisher.publish_file(upload, path)

    async def settled(self, job_id: str, limit: float) -> None:
        """Wait until no upload of the job is under way, at most ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit), self._quiet:
                await self._quiet.wait_for(lambda: not self._under_way[job_id])
        except TimeoutError:
            return

    def _upload(
        self, job: Job, *, step: int, manifest: Manifest, final: bool, best: bool = False
    ) -> VersionUpload:
        return VersionUpload(
            job_id=job.id,
            attempt=job.attempt,
            step=step,
            manifest=manifest,
            final=final,
            keep=kept_by(job),
            spec_digest=job.spec_digest,
            best=best,
        )


def kept_by(job: Job) -> int:
    """Return how many of its newest versions a job keeps."""
    keep = _publish_table(job).get("keep")
    return keep if isinstance(keep, int) else PublishSpec().keep


def _publish_table(job: Job) -> JsonObject:
    table = job.spec.get("publish")
    return table if isinstance(table, Mapping) else {}
