"""The versions that a job keeps, and which one a selector means. Pure values, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dbp.errors import (
    LabelNotFound,
    NotPublishedYet,
    VersionEvicted,
    VersionNotFound,
    alternatives,
)
from dbp.job.labels import ALWAYS_NEWEST, BEST
from dbp.job.state import Event, EventKind, LabelMove, Version

_SHOWN: Final = 10


@dataclass(frozen=True)
class At:
    """A version by number, step or label; the newest if none is given."""

    version: int = 0
    step: int | None = None
    label: str = ""

    @property
    def newest(self) -> bool:
        """Whether the newest version is meant."""
        return not self.version and self.step is None and not self.label


NEWEST: Final = At()


@dataclass(frozen=True)
class VersionChange:
    """A change of one job's versions that becomes durable in one transaction.

    Attributes:
        after: The index after the change.
        time: Unix seconds.
        version: Number of the version that is published, labelled or pinned; 0 where a label
            is removed.
        published: The version if it is new, or final from now on.
        label: The label that moves to the version; "" if none does.
        pinned: Whether the version is pinned from now on; None if that does not change.
        evicted: Versions that retention deletes.
    """

    after: VersionIndex
    time: float
    version: int
    published: Version | None = None
    label: str = ""
    pinned: bool | None = None
    evicted: tuple[int, ...] = ()

    def events(self) -> Iterator[Event]:
        """Yield the events of the job that the change consists of, in their order."""
        if self.published is not None:
            newest = {"latest_parameters": self.after.newest}
            yield Event(EventKind.PARAMETERS_PUBLISHED, self.time, newest)
        if self.label:
            previous = self.after.left.get(self.label, 0)
            move = LabelMove(self.label, self.version, self.time, previous)
            yield Event(EventKind.LABEL_MOVED, self.time, label=move)
        if self.pinned is not None:
            kind = EventKind.VERSION_PINNED if self.pinned else EventKind.VERSION_UNPINNED
            yield Event(kind, self.time, version=self.version)


@dataclass(frozen=True)
class VersionIndex:
    """The versions of one job whose bytes are kept, oldest first, with labels and pins.

    ``left``: the version that each label left with its last move, if it was at one.
    ``moved``: when each label moved last. Both include removed labels that left a version.
    """

    job_id: str
    kept: tuple[Version, ...] = ()
    pinned: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)

    @property
    def newest(self) -> Version | None:
        """The newest version, which is always kept; None before the first one."""
        return self.kept[-1] if self.kept else None

    def find(self, at: At) -> Version:
        """Return the version at ``at``.

        Raises:
            NotPublishedYet: there is no version yet.
            VersionNotFound: no such version yet.
            VersionEvicted: its bytes are no longer kept.
            LabelNotFound: no such label.
        """
        if not self.kept:
            raise NotPublishedYet(
                f"job {self.job_id}: no parameters are published yet; wait for the first "
                "version",
                job=self.job_id,
            )
        if at.label in ALWAYS_NEWEST:
            return self.kept[-1]
        if at.label:
            return self._numbered(self._labelled(at.label))
        if at.step is not None:
            return self._of_step(at.step)
        return self._numbered(at.version) if at.version else self.kept[-1]

    def keeps(self, number: int) -> bool:
        """Return whether the bytes of a version are kept."""
        return any(version.version == number for version in self.kept)

    def names(self) -> set[str]:
        """Return the labels that keep a version: the one they are at, or the one they left."""
        return {*self.labels, *(label for label, number in self.left.items() if number)}

    def labels_of(self, version: int) -> tuple[str, ...]:
        """Return the labels at a version."""
        return tuple(label for label, number in self.labels.items() if number == version)

    def left_by(self, version: int) -> tuple[str, ...]:
        """Return the labels that can be moved back to a version; `best` cannot."""
        movable = ((label, n) for label, n in self.left.items() if label != BEST)
        return tuple(label for label, number in movable if number == version)

    def move_of(self, label: str) -> LabelMove | None:
        """Return the last move of a label; None if no undo needs it and it is at no version."""
        if label not in self.moved:
            return None
        version, previous = self.labels.get(label, 0), self.left.get(label, 0)
        return LabelMove(label, version, self.moved[label], previous)

    def publish(self, version: Version, *, best: bool, keep: int, time: float) -> VersionChange:
        """Return the change that publishes a version; ``best`` moves the label to it."""
        kept = {known.version: known for known in self.kept} | {version.version: version}
        after, label = replace(self, kept=tuple(kept.values())), ""
        if best and self.labels.get(BEST) != version.version:
            after, label = after._labelled_at(BEST, version.version, time), BEST
        return after._retain(VersionChange(after, time, version.version, version, label), keep)

    def move(self, label: str, version: int, *, keep: int, time: float) -> VersionChange:
        """Return the move of a label to a kept version (0: to none). Errors of ``find``."""
        if version:
            self._numbered(version)
        after = self._labelled_at(label, version, time)
        return after._retain(VersionChange(after, time, version, label=label), keep)

    def pin(self, version: int, *, pinned: bool, keep: int, time: float) -> VersionChange:
        """Return the change that pins a kept version, or unpins it. Errors of ``find``."""
        self._numbered(version)
        numbers = self.pinned | {version} if pinned else self.pinned - {version}
        after = replace(self, pinned=numbers)
        return after._retain(VersionChange(after, time, version, pinned=pinned), keep)

    def _labelled_at(self, label: str, version: int, time: float) -> VersionIndex:
        """Return the index after a label's move to a version (0: to none)."""
        before = self.labels.get(label, 0)
        moved = {**self.moved, label: time}
        if not version and not before:
            del moved[label]
        return replace(
            self,
            labels=_with(self.labels, label, version),
            left=_with(self.left, label, before),
            moved=moved,
        )

    def _retain(self, change: VersionChange, keep: int) -> VersionChange:
        """Add to a change that leads to this index the versions that retention deletes."""
        evicted = self._evicted(keep)
        kept = tuple(version for version in self.kept if version.version not in evicted)
        return replace(change, after=replace(self, kept=kept), evicted=tuple(evicted))

    def _evicted(self, keep: int) -> list[int]:
        """Return the versions that retention deletes if the newest ``keep`` stay."""
        left = (number for label, number in self.left.items() if label != BEST)
        named = {*self.pinned, *self.labels.values(), *left}
        old = self.kept[: max(0, len(self.kept) - keep)]
        return [v.version for v in old if not v.final and v.version not in named]

    def _labelled(self, label: str) -> int:
        if label not in self.labels:
            known = list(self.labels)
            hint = alternatives(label, [*known, ALWAYS_NEWEST[0]], "labels")
            raise LabelNotFound(
                f"job {self.job_id}: no label {label!r}{hint}",
                job=self.job_id,
                label=label,
                known=", ".join(known),
            )
        return self.labels[label]

    def _numbered(self, number: int) -> Version:
        newest = self.kept[-1].version
        for version in reversed(self.kept):
            if version.version == number:
                return version
        if 0 < number < newest:
            names = ", ".join(str(version.version) for version in self.kept[-_SHOWN:])
            raise VersionEvicted(
                f"job {self.job_id}: version {number} is no longer kept; kept: {names}",
                job=self.job_id,
                version=number,
                oldest=self.kept[0].version,
                newest=newest,
            )
        raise VersionNotFound(
            f"job {self.job_id}: there is no version {number}; the newest is {newest}",
            job=self.job_id,
            version=number,
            newest=newest,
        )

    def _of_step(self, step: int) -> Version:
        for version in reversed(self.kept):  # the newest, if there are several
            if version.step == step:
                return version
        newest = max(version.step for version in self.kept)
        shown = sorted({version.step for version in self.kept[-_SHOWN:]})
        steps = ", ".join(map(str, shown))
        text = f"job {self.job_id}: no version of step {step} is kept; kept are steps {steps}"
        if step < newest:
            oldest = min(version.step for version in self.kept)
            raise VersionEvicted(text, job=self.job_id, step=step, oldest=oldest, newest=newest)
        raise VersionNotFound(text, job=self.job_id, step=step, newest=newest)


def _with(numbers: Mapping[str, int], label: str, number: int) -> dict[str, int]:
    """Return the numbers by label, in order of the labels, with this one (0: without)."""
    changed = {**numbers, label: number}
    return {name: changed[name] for name in sorted(changed) if changed[name]}
