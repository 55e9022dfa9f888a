"""The versions that a job keeps, and which one a selector means. Pure values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
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
from dbp.job.state import Version

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
class VersionIndex:
    """The versions of one job whose bytes are kept, oldest first, with labels and pins.

    ``left``: the version that each label left with its last move, if it was at one.
    ``moved``: when each label moved last. Both include removed labels.
    """

    job_id: str
    kept: tuple[Version, ...] = ()
    pinned: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)

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

    def moved_to(self, label: str, version: int) -> VersionIndex:
        """Return the index after a label's move to a version (0: to none)."""
        labels, left = dict(self.labels), dict(self.left)
        left[label] = labels.pop(label, 0)
        if version:
            labels[label] = version
        return replace(self, labels=labels, left=left)

    def outlived(self, keep: int) -> list[int]:
        """Return the versions that retention may delete, if the newest ``keep`` stay."""
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
