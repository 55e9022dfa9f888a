"""A job of a service, for asyncio; ``dbp.client.job`` wraps it for synchronous code."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NoReturn, final

import numpy.typing as npt

from dbp.client.arguments import switch
from dbp.client.async_mirror import AsyncParameterMirror
from dbp.client.async_parameters import ParameterUpdate
from dbp.client.inference import Prediction
from dbp.client.job_calls import JobCalls
from dbp.client.metrics import DEFAULT_POINTS, JobMetrics, Steps, Time
from dbp.client.parameter_set import ParameterSet
from dbp.client.transport.calls import not_picklable
from dbp.client.transport.receiver import OnBytes
from dbp.client.transport.streams import JobUpdate
from dbp.client.wanted import At, Wanted
from dbp.job.state import Job, LabelMove, Version, VersionEntry


@final
class AsyncJobHandle:
    """One job of a service: its state, log, parameters and predictions."""

    def __init__(self, calls: JobCalls, job_id: str, notes: tuple[str, ...] = ()) -> None:
        """``notes``: sentences on the spec and the data, from ``submit``."""
        self._calls = calls
        self._parameters = calls.parameters_of(job_id)
        self.id: str = job_id
        self.notes: tuple[str, ...] = notes

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    async def get(self, *, timeout: float | None = None) -> Job:
        """Return the job as it is now."""
        return await self._calls.get(self.id, timeout=timeout)

    async def wait(self, *, timeout: float | None = None) -> Job:
        """Return the job once it has ended; TimeoutError after ``timeout`` seconds.

        Waits as long as the job runs by default. A service that is frozen or gone is noticed
        within 15 seconds, logged, and tried again for the client's ``patience``; then
        DeadlineExceeded or Unavailable is raised.
        """
        return await self._calls.wait(self.id, timeout=timeout)

    def watch(self, *, timeout: float | None = None) -> AsyncGenerator[JobUpdate, None]:
        """Yield every change and the newest progress, until the job has ended.

        ``timeout``: seconds of silence; see AsyncClient.watch.
        """
        return self._calls.watch(self.id, timeout=timeout)

    def logs(
        self, *, follow: bool = False, attempt: int = 0, rank: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[str, None]:  # fmt: skip
        """Yield lines of the job's log, or of one rank's; ``timeout`` as in ``watch``."""
        return self._calls.logs(
            self.id, follow=follow, attempt=attempt, rank=rank, timeout=timeout
        )

    async def cancel(
        self, *, force: bool = False, grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:  # fmt: skip
        """Ask the job to stop; return the job. See AsyncClient.cancel."""
        return await self._calls.cancel(
            self.id, force=force, grace_seconds=grace_seconds, timeout=timeout
        )

    async def pause(
        self, *, grace_seconds: float | None = None, timeout: float | None = None
    ) -> Job:
        """Ask the job to stop at a checkpoint; return the job. See AsyncClient.pause."""
        return await self._calls.pause(self.id, grace_seconds=grace_seconds, timeout=timeout)

    async def resume(self, *, timeout: float | None = None) -> Job:
        """Queue the paused job again; return the job. See AsyncClient.resume."""
        return await self._calls.resume(self.id, timeout=timeout)

    async def retry(self, *, timeout: float | None = None) -> Job:
        """Queue the failed or cancelled job again; return it. See AsyncClient.retry."""
        return await self._calls.retry(self.id, timeout=timeout)

    async def delete(self, *, timeout: float | None = None) -> Job:
        """Delete the ended job with its files; return it. See AsyncClient.delete."""
        return await self._calls.delete(self.id, timeout=timeout)

    async def metrics(
        self, names: Sequence[str] | str | None = None, *, steps: Steps | None = None,
        since: Time | None = None, until: Time | None = None, points: int = DEFAULT_POINTS,
        timeout: float | None = None,
    ) -> JobMetrics:  # fmt: skip
        """Return its metrics history, of all attempts, as arrays by name of the metric.

        Args:
            names: Metrics to return; all by default.
            steps: (first, last) step, either None: the points of these steps.
            since, until: Points reported from, and up to, a time: a datetime, or Unix seconds.
            points: Points of a metric at most, 10,000 the most; neighbours are merged.

        NotFound; InvalidInput: there is no metric of that name.
        """
        return await self._calls.metrics(self.id, names, steps, since, until, points, timeout)

    async def parameters(
        self, *patterns: str, version: int = 0, step: int | None = None, label: str = "",
        newer_than: int = 0, if_none_match: str = "", wait: float | None = None,
        cast: str | None = None, max_staleness_steps: int | None = None,
        on_bytes: OnBytes | None = None, timeout: float | None = None,
    ) -> ParameterSet | None:  # fmt: skip
        """Return its parameters, whole or by name patterns ("0.*"), as arrays over one buffer.

        None: nothing is newer than ``newer_than``, or all have the digest ``if_none_match``.
        A download that breaks off continues where it stopped, also at a service that was
        started again.

        Args:
            version, step, label: Name another version than the newest.
            newer_than: A version that the caller has. A label may move to an earlier version:
                any version but this one is newer then.
            wait: Seconds to wait for the requested version, at most an hour.
            cast: F16 or BF16, for floating-point tensors.
            max_staleness_steps: Most steps that the version may be older than the run.
            on_bytes: Called with (bytes received, bytes in all).
            timeout: Seconds to the first byte, beyond ``wait``, and between bytes; the
                client's by default.

        DeadlineExceeded, NotPublishedYet, VersionNotFound, VersionEvicted, LabelNotFound,
        TensorNotFound, StaleParameters; CorruptParameters: the bytes are not the published
        ones.
        """
        wanted = Wanted(
            patterns, version=version, step=step, label=label, newer_than=newer_than,
            if_none_match=if_none_match, wait=wait, cast=cast,
            max_staleness_steps=max_staleness_steps,
        )  # fmt: skip
        return await self._parameters.get(wanted, timeout, on_bytes)

    async def metadata(
        self, *, version: int = 0, label: str = "", timeout: float | None = None
    ) -> Mapping[str, str]:
        """Return the metadata of its newest parameters, or those of a version or label.

        Among them are ``dbp.input_names`` (a JSON list), where the training set had names,
        and ``dbp.classes``. Raises as ``parameters`` does.
        """
        return await self._parameters.metadata(version, label, timeout)

    async def predict(
        self, inputs: npt.ArrayLike, *, version: int = 0, label: str = "",
        timeout: float | None = None,
    ) -> Prediction:  # fmt: skip
        """Return the model's outputs for inputs (n, *input_shape); see AsyncClient.predict."""
        return await self._calls.predict(
            self.id, inputs, version=version, label=label, timeout=timeout
        )

    async def download(
        self,
        path: str | os.PathLike[str],
        *patterns: str,
        version: int = 0,
        step: int | None = None,
        label: str = "",
        cast: str | None = None,
        on_bytes: OnBytes | None = None,
        timeout: float | None = None,
    ) -> ParameterSet:
        """Write the parameters as a safetensors file, atomically.

        ``on_bytes`` is called with (bytes received, bytes in all). OSError: cannot be written.
        """
        wanted = Wanted(patterns=patterns, version=version, step=step, label=label, cast=cast)
        return await self._parameters.save(path, wanted, timeout, on_bytes)

    def watch_parameters(
        self,
        *patterns: str,
        label: str = "",
        newer_than: int = 0,
        data: bool = False,
        cast: str | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[ParameterUpdate, None]:
        """Yield each new version, with its tensors if ``data``, until the job has ended.

        A slow reader gets the newest, and the number of those that were skipped.

        Args:
            label: Yield each version that this label moves to, an earlier one too, instead of
                each new one. A label that is at no version is waited for. Where users move the
                label, the job's end does not end this.
            newer_than: The version that the caller has: begin after it.
            timeout: Seconds without a message; see AsyncClient.watch.
        """
        wanted = Wanted(patterns, label=label, newer_than=newer_than, cast=cast)
        return self._parameters.watch(wanted, timeout, data=switch("data", data))

    def mirror(
        self,
        *patterns: str,
        label: str = "",
        cast: str | None = None,
        timeout: float | None = None,
    ) -> AsyncParameterMirror:
        """Return a local copy that keeps itself fresh, within ``async with``.

        ``label``: follow the version that it is at, also to an earlier one, instead of the
        newest; the mirror of a label that users move continues after the job has ended.

        ``timeout``: seconds without a message after which its ``error`` is set; 15 by
        default.
        """
        wanted = Wanted(patterns, label=label, cast=cast)
        return AsyncParameterMirror(self._parameters, wanted, timeout)

    def versions(self, *, timeout: float | None = None) -> AsyncGenerator[VersionEntry, None]:
        """Return the versions, newest first, including those whose bytes are deleted."""
        return self._parameters.versions(timeout)

    async def labels(
        self, *, timeout: float | None = None
    ) -> tuple[list[LabelMove], list[LabelMove]]:
        """Return each label's version, by name, and the labels' moves, oldest first."""
        return await self._parameters.labels(timeout)

    async def move_label(
        self,
        label: str,
        version: int | None = None,
        *,
        at: str = "",
        step: int | None = None,
        expected_version: int | None = None,
        timeout: float | None = None,
    ) -> LabelMove:
        """Move a label to a version, which keeps that version.

        The version that the label leaves is kept, too, until the label's next move.

        Args:
            label: A name of the user's own; `best` is moved by the run.
            version: The version's number; 0 removes the label.
            at: `latest`, or a label: the version that it is at. The service finds the version
                and moves the label in one step, so that it cannot be deleted in between.
            step: The step after which the version was copied.
            expected_version: Move the label only if it is at this version (0: at none). A label
                that is at the wanted version already is no Conflict, so a retry is safe.
            timeout: Seconds to the answer; the client's by default.

        Raises InvalidInput unless one version is named, Conflict where the label is not at
        ``expected_version``, else as ``parameters``.
        """
        to = At(version, at, step)
        return await self._parameters.move_label(label, to, expected_version, timeout)

    async def undo_label(
        self,
        label: str,
        *,
        expected_version: int | None = None,
        timeout: float | None = None,
    ) -> LabelMove:
        """Move a label back to the version that it left last, or remove it if it left none.

        A second undo takes back the first. Raises LabelNotFound where there is nothing to
        undo, Conflict where the label is not at ``expected_version``.
        """
        return await self._parameters.undo_label(label, expected_version, timeout)

    async def pin(
        self,
        version: int | None = None,
        *,
        at: str = "",
        step: int | None = None,
        pinned: bool = True,
        timeout: float | None = None,
    ) -> VersionEntry:
        """Keep a version until it is unpinned; with ``pinned=False`` unpin it.

        ``version``, ``at`` and ``step`` name the version as in ``move_label``.
        """
        return await self._parameters.pin(At(version, at, step), timeout, pinned=pinned)

    async def publish(self, *, wait: float = 30.0, timeout: float | None = None) -> Version:
        """Ask the run for a version now; return the first one published after that.

        WrongState: the job does not train now; Unavailable: none came within ``wait`` seconds
        (at most an hour); DeadlineExceeded: the service did not answer ``timeout`` seconds
        after that.
        """
        return await self._parameters.publish(wait, timeout)
