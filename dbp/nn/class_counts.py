"""Count samples by class and predicted class: in integers, so exact in any order of samples."""

from __future__ import annotations

from typing import Final, final

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

# The pairs of 1,000 classes take 8 MB; of more classes only their totals are counted.
MOST_PAIRED: Final = 1_000


@final
class ClassCounts:
    """Counts of samples; memory depends on the number of classes only.

    Attributes:
        vector: All counts, 1-D; an allreduce of it gives the counts of all ranks.
    """

    def __init__(self, classes: int, *, most_paired: int = MOST_PAIRED) -> None:
        self._classes = classes
        self._paired = classes <= most_paired
        self.vector: Counts = np.zeros(classes * (classes if self._paired else 3), np.int64)

    def clear(self) -> None:
        """Set all counts to 0."""
        self.vector.fill(0)

    def add(self, actual: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> None:
        """Count samples; ``actual`` and ``predicted`` are class numbers, (batch,)."""
        actual = actual.astype(np.int64)
        if self._paired:
            np.add.at(self.vector, actual * self._classes + predicted, 1)
            return
        right, guessed, real = self.vector.reshape(3, self._classes)
        np.add.at(right, actual[actual == predicted], 1)
        np.add.at(guessed, predicted, 1)
        np.add.at(real, actual, 1)

    @property
    def matrix(self) -> Counts | None:
        """Copy of the counts by pair, (classes, predicted classes); None above MOST_PAIRED."""
        if not self._paired:
            return None
        return self.vector.reshape(self._classes, self._classes).copy()

    def totals(self) -> tuple[Counts, Counts, Counts]:
        """Return the correct, the predicted and the actual samples, each (classes,)."""
        if self._paired:
            square = self.vector.reshape(self._classes, self._classes)
            return square.diagonal().copy(), square.sum(axis=0), square.sum(axis=1)
        right, predicted, actual = self.vector.reshape(3, self._classes).copy()
        return right, predicted, actual
