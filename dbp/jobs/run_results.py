"""Results that the run of an attempt left: outcome, final parameters, newest checkpoint."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import final

from dbp.errors import DbpError
from dbp.job.state import Job, RunOutcome
from dbp.jobs.disk_wait import NOT_CANCELLED, DiskWait
from dbp.jobs.publish_terms import labels_best
from dbp.jobs.store import Store
from dbp.launch.launcher import Launcher
from dbp.storage.checkpoints import NewestCheckpoint
from dbp.storage.full_disk import is_full
from dbp.storage.state_folder import StateFolder
from dbp.versions.publisher import VersionPublisher

log = logging.getLogger("dbp.jobs")


@final
class RunResults:
    """Fetches results through the launcher; each job is at the attempt that has ended."""

    def __init__(
        self,
        folder: StateFolder,
        store: Store,
        launcher: Launcher,
        publisher: VersionPublisher,
        disk: DiskWait,
    ) -> None:
        self._folder = folder
        self._store = store
        self._launcher = launcher
        self._publisher = publisher
        self._disk = disk

    async def outcome(self, job: Job) -> RunOutcome | None:
        """Return the outcome that the run left, else the one that it reported."""
        try:
            folder = self._folder.attempt_folder(job.id, job.attempt)
            outcome = await self._launcher.fetch_outcome(folder)
            if outcome is not None:
                return outcome
        except (DbpError, OSError):
            log.warning("job %s: the result file of its run is damaged", job.id)
        return await self._store.outcome(job.id, job.attempt)

    async def publish_final(self, job: Job, outcome: RunOutcome) -> str:
        """Publish the final parameters that the run left, if they did not arrive.

        Waits for space on a full disk. Returns the error if the job was cancelled meanwhile,
        else "". Those of a run that did not finish are left where they are if an earlier
        attempt has published a later step.
        """
        newest = job.latest_parameters
        if newest is not None and newest.attempt == job.attempt and newest.final:
            return ""
        passed = newest is not None and newest.attempt < job.attempt
        if newest and passed and outcome.status != "succeeded" and outcome.step <= newest.step:
            return ""
        await self._publish_best(job, outcome)
        try:
            run = self._folder.run_of(job.id, job.attempt)
            path = await self._launcher.fetch_parameters(run)
            if path is not None:
                best = labels_best(job) and _ends_at_best(outcome)
                await self._publish(job, path, outcome, "its final version", best=best)
        except (DbpError, OSError) as error:
            log.warning("job %s: its final parameters: %s", job.id, error)
            return f"{error}: {path}" if is_full(error) else ""
        return ""

    async def _publish_best(self, job: Job, outcome: RunOutcome) -> None:
        """Publish the best parameters that the run left: its links could not deliver them."""
        try:
            folder = self._folder.attempt_folder(job.id, job.attempt)
            path = await self._launcher.fetch_best(folder)
            if path is not None:
                await self._publish(
                    job, path, outcome, "its best version", best=True, final=False
                )
                path.unlink(missing_ok=True)
        except (DbpError, OSError) as error:
            log.warning("job %s: its best parameters: %s", job.id, error)

    async def _publish(
        self,
        job: Job,
        path: Path,
        outcome: RunOutcome,
        waits: str,
        *,
        best: bool,
        final: bool = True,
    ) -> None:
        publish = partial(
            self._publisher.publish_file,
            job.id,
            job.attempt,
            path,
            step=outcome.step,
            best=best,
            final=final,
        )
        await self._disk.run(job.id, waits, publish, while_=NOT_CANCELLED)

    async def checkpoint(self, job: Job) -> NewestCheckpoint:
        """Return the step of the newest sound checkpoint, and newer damaged ones."""
        run = self._folder.run_of(job.id, job.attempt)
        return await self._launcher.fetch_checkpoint(run)


def _ends_at_best(outcome: RunOutcome) -> bool:
    """Return whether the final parameters are those of the best epoch."""
    at_best = outcome.best is not None and outcome.best.step == outcome.step
    return outcome.best_restored or at_best
