"""The report on each class of an evaluated model: precision, recall, F1, confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final, Self, final

import numpy as np

from dbp.json_value import JsonObject
from dbp.nn.class_counts import MOST_PAIRED, ClassCounts, Counts
from dbp.nn.classes import share
from dbp.nn.confusion import quotients
from dbp.printable import cut, printable_line
from dbp.quantities import count_text
from dbp.train.model.class_tables import (
    SHOWN_CONFUSIONS,
    Figures,
    class_lines,
    confusion_lines,
    empty_class_lines,
    matrix_lines,
)

WIDTH: Final = 80
MOST_IN_MATRIX: Final = 20  # classes
NAME: Final = 24  # characters


@dataclass(frozen=True)
class Averages:
    """Means over the classes that occur or are predicted; NaN without samples."""

    precision: float
    recall: float
    f1: float


@final
@dataclass(frozen=True, eq=False)
class ClassReport:
    """Figures of each class over a data set; ``print`` shows it as tables.

    Every sample counts once, whatever its weight. The precision of a class that is never
    predicted is 0, and so is the recall of a class that does not occur. A class that neither
    occurs nor is predicted has no figures (NaN) and counts in no average. The figures are those
    of ``sklearn.metrics.classification_report`` with ``zero_division=0``.

    Attributes:
        names: Of the classes; their numbers where they have no names.
        precision: Correct / predicted samples of each class, (classes,).
        recall: Correct / actual samples, (classes,).
        f1: 2 correct / (predicted + actual) samples, (classes,).
        support: Actual samples, (classes,).
        predicted: Samples that were predicted as the class, (classes,).
        accuracy: Correct / all samples.
        macro: Plain means over the classes.
        weighted: Means over the classes, weighted by their support.
        confusion_matrix: Samples by actual class and predicted class, (classes, classes); None
            for more than 1,000 classes.
    """

    names: tuple[str, ...]
    precision: Figures
    recall: Figures
    f1: Figures
    support: Counts
    predicted: Counts
    accuracy: float
    macro: Averages
    weighted: Averages
    confusion_matrix: Counts | None

    @classmethod
    def of(cls, counts: ClassCounts, names: Sequence[str] = ()) -> Self:
        """Compute the report from counts; without ``names`` the classes get their numbers."""
        right, predicted, support = counts.totals()
        seen = (predicted > 0) | (support > 0)

        def figures(parts: Counts, wholes: Counts) -> Figures:
            found: Figures = np.where(seen, quotients(parts, wholes), np.nan)
            return found

        def averages(weights: Counts) -> Averages:
            columns = (precision[seen], recall[seen], f1[seen])
            whole = float(weights[seen].sum())
            return Averages(
                *(share(float(column @ weights[seen]), whole) for column in columns)
            )

        precision, recall = figures(right, predicted), figures(right, support)
        f1 = figures(2 * right, predicted + support)
        return cls(
            names=tuple(names) or tuple(map(str, range(len(support)))),
            precision=precision,
            recall=recall,
            f1=f1,
            support=support,
            predicted=predicted,
            accuracy=share(float(right.sum()), float(support.sum())),
            macro=averages(np.ones_like(support)),
            weighted=averages(support),
            confusion_matrix=counts.matrix,
        )

    def confusions(self, most: int) -> list[tuple[int, int, int]]:
        """Return the most frequent mistakes: class, predicted class, samples.

        Pairs of the same count are in the order of their classes.
        """
        if self.confusion_matrix is None:
            return []
        wrong = self.confusion_matrix.copy()
        np.fill_diagonal(wrong, 0)
        flat = wrong.reshape(-1)
        first = np.argsort(-flat, kind="stable")[:most]
        size = len(wrong)
        return [(int(p // size), int(p % size), int(flat[p])) for p in first if flat[p]]

    def to_json(self) -> JsonObject:
        """Return the report as JSON values; NaN where a class has no figures."""
        totals = (self.support, self.predicted)
        columns = (self.names, self.precision, self.recall, self.f1, *totals)
        matrix = self.confusion_matrix
        return {
            "samples": int(self.support.sum()),
            "accuracy": self.accuracy,
            "classes": [
                {
                    "class": name,
                    "precision": float(precision),
                    "recall": float(recall),
                    "f1": float(f1),
                    "support": int(support),
                    "predicted": int(predicted),
                }
                for name, precision, recall, f1, support, predicted in zip(
                    *columns, strict=True
                )
            ],
            "macro_average": vars(self.macro),
            "weighted_average": vars(self.weighted),
            "confusion_matrix": None if matrix is None else matrix.tolist(),
        }

    def text(self, width: int = WIDTH) -> str:
        """Return the tables; no line of the confusion matrix is longer than ``width``.

        Of more than 20 classes the most frequent confusions stand in its place, and of more
        than 100 classes the table has those with the lowest F1.
        """
        names = [cut(printable_line(name), NAME) for name in self.names]
        if self.confusion_matrix is None:
            most = count_text(MOST_PAIRED, "class", "classes")
            lines = [f"Pairs of classes are counted for up to {most}, not for {len(names):,}."]
        elif len(names) <= MOST_IN_MATRIX:
            lines = ["Confusion matrix: rows are actual classes, columns predicted classes."]
            lines += matrix_lines(self.confusion_matrix, names, width)
        else:
            found = self.confusions(SHOWN_CONFUSIONS + 1)
            lines = list(confusion_lines(found, self.support, names))
        figures = np.stack([self.precision, self.recall, self.f1], axis=1)
        totals = (
            ("accuracy", (None, None, self.accuracy)),
            ("macro average", astuple(self.macro)),
            ("weighted average", astuple(self.weighted)),
        )
        lines += ["", *class_lines(names, figures, self.support, totals)]
        lines += empty_class_lines(names, self.predicted, self.support)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()
