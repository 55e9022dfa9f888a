"""A job of a service, for synchronous code."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, final

import numpy.typing as npt

from dbp.client.async_job import AsyncJobHandle
from dbp.client.async_parameters import ParameterUpdate
from dbp.client.inference import Prediction
from dbp.client.loop_thread import LoopThread
from dbp.client.metrics import DEFAULT_POINTS, JobMetrics, Steps, Time
from dbp.client.mirror import ParameterMirror
from dbp.client.parameter_set import ParameterSet
from dbp.client.transport.calls import not_picklable
from dbp.client.transport.receiver import OnBytes
from dbp.client.transport.streams import JobUpdate
from dbp.job.state import Job, LabelMove, Version, VersionEntry


@final
class JobHandle:
    """One job of a service; ``AsyncJobHandle`` describes the methods."""

    def __init__(self, loop: LoopThread, handle: AsyncJobHandle) -> None:
        self._loop = loop
        self._handle = handle
        self.id: str = handle.id
        self.notes: tuple[str, ...] = handle.notes

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    def get(self, *, timeout: float | None = None) -> Job:
        """Return the job as it is now."""
        return self._loop.run(self._handle.get(timeout=timeout))

    def wait(self, *, timeout: float | None = None) -> Job:
        """Return the job once it has ended; TimeoutError after ``timeout`` seconds."""
        return self._loop.run(self._handle.wait(timeout=timeout))

    def watch(self, *, timeout: float | None = None) -> Iterator[JobUpdate]:
        """Yield every change and the newest progress, until the job has ended."""
        return self._loop.iterate(self._handle.watch(timeout=timeout))

    def logs(
        self,
        *,
        follow: bool = False,
        attempt: int = 0,
        rank: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[str]:
        """Yield lines of the job's log, or of one rank's."""
        work = self._handle.logs(follow=follow, attempt=attempt, rank=rank, timeout=timeout)
        return self._loop.iterate(work)

    def cancel(
        self,
        *,
        force: bool = False,
        grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Ask the job to stop; return the job."""
        work = self._handle.cancel(force=force, grace_seconds=grace_seconds, timeout=timeout)
        return self._loop.run(work)

    def pause(self, *, grace_seconds: float | None = None, timeout: float | None = None) -> Job:
        """Ask the job to write a checkpoint and to stop; return the job."""
        work = self._handle.pause(grace_seconds=grace_seconds, timeout=timeout)
        return self._loop.run(work)

    def resume(self, *, timeout: float | None = None) -> Job:
        """Queue the paused job again; return the job."""
        return self._loop.run(self._handle.resume(timeout=timeout))

    def retry(self, *, timeout: float | None = None) -> Job:
        """Queue the failed or cancelled job again; return the job."""
        return self._loop.run(self._handle.retry(timeout=timeout))

    def delete(self, *, timeout: float | None = None) -> Job:
        """Delete the ended job with its files; return it as it was."""
        return self._loop.run(self._handle.delete(timeout=timeout))

    def metrics(
        self,
        names: Sequence[str] | str | None = None,
        *,
        steps: Steps | None = None,
        since: Time | None = None,
        until: Time | None = None,
        points: int = DEFAULT_POINTS,
        timeout: float | None = None,
    ) -> JobMetrics:
        """Return its metrics history, of all attempts, as arrays by name of the metric."""
        work = self._handle.metrics(
            names, steps=steps, since=since, until=until, points=points, timeout=timeout
        )
        return self._loop.run(work)

    def parameters(
        self,
        *patterns: str,
        version: int = 0,
        step: int | None = None,
        label: str = "",
        newer_than: int = 0,
        if_none_match: str = "",
        wait: float | None = None,
        cast: str | None = None,
        max_staleness_steps: int | None = None,
        on_bytes: OnBytes | None = None,
        timeout: float | None = None,
    ) -> ParameterSet | None:
        """Return its parameters as arrays; None if nothing is newer than ``newer_than``.

        ``on_bytes`` is called on the client's own thread.
        """
        work = self._handle.parameters(
            *patterns,
            version=version,
            step=step,
            label=label,
            newer_than=newer_than,
            if_none_match=if_none_match,
            wait=wait,
            cast=cast,
            max_staleness_steps=max_staleness_steps,
            on_bytes=on_bytes,
            timeout=timeout,
        )
        return self._loop.run(work)

    def metadata(
        self, *, version: int = 0, label: str = "", timeout: float | None = None
    ) -> Mapping[str, str]:
        """Return the metadata of its newest parameters, or those of a version or label."""
        work = self._handle.metadata(version=version, label=label, timeout=timeout)
        return self._loop.run(work)

    def predict(
        self,
        inputs: npt.ArrayLike,
        *,
        version: int = 0,
        label: str = "",
        timeout: float | None = None,
    ) -> Prediction:
        """Return the model's outputs for inputs (n, *input_shape), all by one version."""
        work = self._handle.predict(inputs, version=version, label=label, timeout=timeout)
        return self._loop.run(work)

    def download(
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
        """Write the parameters as a safetensors file, atomically."""
        work = self._handle.download(
            path, *patterns, version=version, step=step, label=label, cast=cast,
            on_bytes=on_bytes, timeout=timeout,
        )  # fmt: skip
        return self._loop.run(work)

    def watch_parameters(
        self,
        *patterns: str,
        label: str = "",
        newer_than: int = 0,
        data: bool = False,
        cast: str | None = None,
        timeout: float | None = None,
    ) -> Iterator[ParameterUpdate]:
        """Yield each new version, with its tensors if ``data``, until the job has ended.

        With a label, each version that it moves to.
        """
        return self._loop.iterate(
            self._handle.watch_parameters(
                *patterns,
                label=label,
                newer_than=newer_than,
                data=data,
                cast=cast,
                timeout=timeout,
            )
        )

    def mirror(
        self,
        *patterns: str,
        label: str = "",
        cast: str | None = None,
        timeout: float | None = None,
    ) -> ParameterMirror:
        """Return a local copy of the newest or a label's version, updated within ``with``."""

        async def made() -> ParameterMirror:  # on the loop, whose events it has
            mirror = self._handle.mirror(*patterns, label=label, cast=cast, timeout=timeout)
            return ParameterMirror(self._loop, mirror)

        return self._loop.run(made())

    def versions(self, *, timeout: float | None = None) -> Iterator[VersionEntry]:
        """Return the versions, newest first, including those whose bytes are deleted."""
        return self._loop.iterate(self._handle.versions(timeout=timeout))

    def labels(
        self, *, timeout: float | None = None
    ) -> tuple[list[LabelMove], list[LabelMove]]:
        """Return each label's version, by name, and the labels' moves, oldest first."""
        return self._loop.run(self._handle.labels(timeout=timeout))

    def move_label(
        self,
        label: str,
        version: int | None = None,
        *,
        at: str = "",
        step: int | None = None,
        expected_version: int | None = None,
        timeout: float | None = None,
    ) -> LabelMove:
        """Move a label to a version, which keeps that version; number 0 removes the label.

        ``at``: `latest` or a label, which the service looks up in the same step.
        """
        work = self._handle.move_label(
            label, version, at=at, step=step, expected_version=expected_version,
            timeout=timeout,
        )  # fmt: skip
        return self._loop.run(work)

    def undo_label(
        self,
        label: str,
        *,
        expected_version: int | None = None,
        timeout: float | None = None,
    ) -> LabelMove:
        """Move a label back to the version that it left last."""
        work = self._handle.undo_label(
            label, expected_version=expected_version, timeout=timeout
        )
        return self._loop.run(work)

    def pin(
        self,
        version: int | None = None,
        *,
        at: str = "",
        step: int | None = None,
        pinned: bool = True,
        timeout: float | None = None,
    ) -> VersionEntry:
        """Keep a version, named as in ``move_label``, until it is unpinned."""
        work = self._handle.pin(version, at=at, step=step, pinned=pinned, timeout=timeout)
        return self._loop.run(work)

    def publish(self, *, wait: float = 30.0, timeout: float | None = None) -> Version:
        """Ask the run for a version now; return the first one published after that."""
        return self._loop.run(self._handle.publish(wait=wait, timeout=timeout))
