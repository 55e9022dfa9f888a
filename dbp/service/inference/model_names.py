"""Parse a model's name: JOB, JOB@LABEL, or a label that one job has."""

from __future__ import annotations

from typing import Final, final

from dbp.errors import InvalidInput, JobNotFound, ModelNotFound, nearest
from dbp.jobs.live_parameters import LiveParameters
from dbp.rpc.scalar_convert import job_name
from dbp.service.job_access import JobAccess
from dbp.versions.index import At

_SEARCHED: Final = 300
_MAX_REMEMBERED: Final = 10_000
_MAX_DIGITS: Final = 18


@final
class ModelNames:
    """Looks up names among the jobs and labels of one service."""

    def __init__(self, parameters: LiveParameters, access: JobAccess) -> None:
        """``access`` checks that the caller may read the job of a name."""
        self._parameters = parameters
        self._access = access
        self._jobs: set[str] = set()  # ids that were found; jobs do not go away

    async def find(self, name: str, version: str) -> tuple[str, At]:
        """Return the job's id and the selected version.

        InvalidInput: such a version cannot exist; ModelNotFound; PermissionDenied: it is a
        private job of another user. Does not check that the
        version or the job's label exists.
        """
        number = _number(version)
        job_id, marked, label = name.partition("@")
        if marked and not label:
            raise InvalidInput(f"model_name: expected JOB@LABEL, got {name[:200]!r}")
        if not await self._is_job(job_id):
            if marked:
                raise await self._unknown(job_id)
            job_id, label = await self._labelled(name), name
        await self._access.readable(job_name(job_id))
        if label and number:
            raise InvalidInput(
                f"model_version: {name[:200]!r} names a version by its label, got version "
                f"{number} too; leave one out"
            )
        return job_id, At(version=number, label=label)

    async def _is_job(self, job_id: str) -> bool:
        if job_id in self._jobs:
            return True
        try:
            await self._parameters.job(job_id)
        except JobNotFound:
            return False
        if len(self._jobs) >= _MAX_REMEMBERED:
            self._jobs.clear()
        self._jobs.add(job_id)
        return True

    async def _labelled(self, label: str) -> str:
        labelled = await self._parameters.jobs_labelled(label)
        jobs = [job for job in labelled if await self._access.sees(job)]
        if not jobs:
            raise await self._unknown(label)
        if len(jobs) > 1:
            shown = ", ".join(f"{job}@{label}" for job in jobs)
            raise InvalidInput(
                f"model_name: several jobs have the label {label!r}: ask for one of {shown}"
            )
        return jobs[0]

    async def _unknown(self, name: str) -> ModelNotFound:
        newest = await self._parameters.newest_jobs(_SEARCHED)
        hint = nearest(name, [job for job in newest if await self._access.sees(job)])
        return ModelNotFound(
            f"model {name[:200]!r}: no such job, and no job has such a label"
            f"{hint or '; `dbp jobs` lists them'}",
            model=name[:200],
        )


def _number(version: str) -> int:
    if not version:
        return 0
    if not (version.isascii() and version.isdecimal() and len(version) <= _MAX_DIGITS):
        raise InvalidInput(
            f"model_version: must be a parameter version's number, or empty for the newest; "
            f"got {version[:64]!r}"
        )
    if not int(version):
        raise InvalidInput("model_version: versions are counted from 1; empty is the newest")
    return int(version)
