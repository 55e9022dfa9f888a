"""Terms on which a job publishes versions, from the table ``publish`` of its spec."""

from __future__ import annotations

from collections.abc import Mapping

from dbp.job.spec.job_spec import PublishSpec
from dbp.job.state import Job
from dbp.jobs.job_table import JobTable
from dbp.json_value import JsonObject
from dbp.versions.publisher import PublishTerms, Terms


def terms_of(table: JobTable) -> Terms:
    """Return a function of job id and attempt, for the jobs of this table."""

    async def terms(job_id: str, attempt: int) -> PublishTerms:
        job = await table.get(job_id, attempt)
        return PublishTerms(
            state=job.state,
            live=not job.state.terminal,
            keep=kept_by(job),
            spec_digest=job.spec_digest,
            version_floor=job.version_floor,
        )

    return terms


def kept_by(job: Job) -> int:
    """Return how many of its newest versions a job keeps."""
    keep = _publish_table(job).get("keep")
    return keep if isinstance(keep, int) else PublishSpec().keep


def labels_best(job: Job) -> bool:
    """Return whether the best epoch is published under the label ``best``."""
    return bool(_publish_table(job).get("best", PublishSpec().best))


def _publish_table(job: Job) -> JsonObject:
    table = job.spec.get("publish")
    return table if isinstance(table, Mapping) else {}
