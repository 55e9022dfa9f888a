"""One job of a service, for plain Python."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NoReturn, final

import numpy.typing as npt

from dbp.client.async_job import AsyncJobHandle
from dbp.client.async_parameters import ParameterUpdate
from dbp.client.download import OnBytes
from dbp.client.inference import Prediction
from dbp.client.loop_thread import LoopThread
from dbp.client.mirror import ParameterMirror
from dbp.client.parameter_set import ParameterSet
from dbp.client.pickling import not_picklable
from dbp.client.streams import JobUpdate
from dbp.job.state import Job, LabelMove, Version, VersionEntry


@final
class JobHandle:
    """One job of a service; see ``AsyncJobHandle`` for what the methods do."""

    def __init__(self, loop: LoopThread, handle: AsyncJobHandle) -> None:
        self._loop = loop
        self._handle = handle
        self.id = handle.id
        self.notes = handle.notes

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    def get(self) -> Job:
        """Return the job as it stands."""
        return self._loop.run(self._handle.get())

    def wait(self) -> Job:
        """Return the job once it has ended."""
        return self._loop.run(self._handle.wait())

    def watch(self) -> Iterator[JobUpdate]:
        """Return every change and the newest progress, until the job has ended."""
        return self._loop.iterate(self._handle.watch())

    def logs(self, *, follow: bool = False, attempt: int = 0) -> Iterator[str]:
        """Return lines of its log."""
        return self._loop.iterate(self._handle.logs(follow=follow, attempt=attempt))

    def cancel(self, *, force: bool = False, grace_seconds: float | None = None) -> Job:
        """Ask it to stop."""
        return self._loop.run(self._handle.cancel(force=force, grace_seconds=grace_seconds))

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
        )
        return self._loop.run(work)

    def metadata(self, *, version: int = 0, label: str = "") -> Mapping[str, str]:
        """Return the metadata of its newest parameters, or those of a version or label."""
        return self._loop.run(self._handle.metadata(version=version, label=label))

    def predict(
        self, inputs: npt.ArrayLike, *, version: int = 0, label: str = ""
    ) -> Prediction:
        """Outputs of its model for inputs (n, *input_shape), all by one version."""
        return self._loop.run(self._handle.predict(inputs, version=version, label=label))

    def download(
        self,
        path: str | os.PathLike[str],
        *patterns: str,
        version: int = 0,
        step: int | None = None,
        label: str = "",
        cast: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> ParameterSet:
        """Write its parameters as a safetensors file; the file appears whole."""
        work = self._handle.download(
            path, *patterns, version=version, step=step, label=label, cast=cast,
            on_bytes=on_bytes,
        )  # fmt: skip
        return self._loop.run(work)

    def watch_parameters(
        self,
        *patterns: str,
        label: str = "",
        newer_than: int = 0,
        data: bool = False,
        cast: str | None = None,
    ) -> Iterator[ParameterUpdate]:
        """Yield each new version, with its tensors if ``data``, until the job has ended.

        With a label, each version that it moves to.
        """
        return self._loop.iterate(
            self._handle.watch_parameters(
                *patterns, label=label, newer_than=newer_than, data=data, cast=cast
            )
        )

    def mirror(
        self, *patterns: str, label: str = "", cast: str | None = None
    ) -> ParameterMirror:
        """Return a local copy of the newest or a label's version, fresh within ``with``."""

        async def made() -> ParameterMirror:  # on the loop, whose events it has
            mirror = self._handle.mirror(*patterns, label=label, cast=cast)
            return ParameterMirror(self._loop, mirror)

        return self._loop.run(made())

    def versions(self) -> Iterator[VersionEntry]:
        """Return its versions, newest first, those too whose bytes are no longer kept."""
        return self._loop.iterate(self._handle.versions())

    def labels(self) -> tuple[list[LabelMove], list[LabelMove]]:
        """Where its labels are, by name, and their moves, oldest first."""
        return self._loop.run(self._handle.labels())

    def move_label(
        self,
        label: str,
        version: int | None = None,
        *,
        at: str = "",
        step: int | None = None,
        expected_version: int | None = None,
    ) -> LabelMove:
        """Move a label to a version, which keeps that version; number 0 removes the label.

        ``at``: `latest` or a label, which the service looks up in the same step.
        """
        work = self._handle.move_label(
            label, version, at=at, step=step, expected_version=expected_version
        )
        return self._loop.run(work)

    def undo_label(self, label: str, *, expected_version: int | None = None) -> LabelMove:
        """Move a label back to the version that it left last."""
        return self._loop.run(self._handle.undo_label(label, expected_version=expected_version))

    def pin(
        self,
        version: int | None = None,
        *,
        at: str = "",
        step: int | None = None,
        pinned: bool = True,
    ) -> VersionEntry:
        """Keep a version, named as in ``move_label``, until it is unpinned."""
        return self._loop.run(self._handle.pin(version, at=at, step=step, pinned=pinned))

    def publish(self, *, wait: float = 30.0) -> Version:
        """Ask the run for a version now; returns the first one that came after that."""
        return self._loop.run(self._handle.publish(wait=wait))
