"""Describe labels that a loss of classes does not accept, with a command that rewrites them."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.data.dataset import Array
from dbp.data.quoting import shown
from dbp.data.text_encoding import beside
from dbp.data_access import hides_contents
from dbp.quantities import count_text

LARGEST_CLASS: Final = 2**31 - 1

_SHOWN: Final = 6
_EXACT: Final = 2.0**63  # larger ones are shown in short
_KEPT: Final = 1_000
_BLOCKS: Final = 256  # of targets that are read

_NUMBERED: Final = "np.unique({y}, return_inverse=True)[1]"
_VALUES: Final = "for numbers to predict take a loss of values, such as mean_squared_error"


@final
@dataclass(frozen=True)
class Labels:
    """The distinct targets of samples, one number each, in ascending order; at most 1,000."""

    distinct: Array
    low: float
    high: float

    @classmethod
    def of(cls, blocks: Iterable[Array]) -> Labels:
        """Return the labels in blocks of targets."""
        distinct = np.empty(0)
        low, high = np.inf, -np.inf
        for block in itertools.islice(blocks, _BLOCKS):
            found = np.unique(block)
            low, high = min(low, float(found[0])), max(high, float(found[-1]))
            distinct = np.unique(np.concatenate([distinct, found[:_KEPT]]))[:_KEPT]
        return cls(distinct, low, high)

    @property
    def is_whole(self) -> bool:
        """Whether all are whole numbers."""
        return bool((self.distinct == np.floor(self.distinct)).all())

    def __str__(self) -> str:
        count = len(self.distinct)
        if hides_contents():
            return count_text(count, "different number")
        if self.is_whole and count > 2 and self.high - self.low == count - 1:
            return f"{_shown(self.low)} to {_shown(self.high)}"
        texts = [_shown(value) for value in self.distinct[:_SHOWN].tolist()]
        if count > _SHOWN:
            return f"{', '.join(texts)}, ..."
        return " and ".join([", ".join(texts[:-1]), texts[-1]]) if count > 1 else texts[0]


def _shown(value: float) -> str:
    is_exact = value.is_integer() and abs(value) <= _EXACT
    return str(int(value)) if is_exact else f"{value:.6g}"


def not_classes(labels: Labels, name: str) -> str:
    """Return the targets and the remedy where some are no class: negative, or no whole number.

    ``name``: of the targets, a file or an array in one.
    """
    found = str(labels) if labels.is_whole else f"numbers such as {labels}"
    return f"the targets are {found}; {class_remedy(labels, name)}"


def class_remedy(labels: Labels, name: str) -> str:
    """Return how to make classes of targets that are none."""
    if not labels.is_whole:
        return _VALUES
    if labels.high > LARGEST_CLASS:
        return f"{_VALUES}; if they are identifiers, {rewritten(_NUMBERED, name)}"
    if labels.distinct.tolist() == [-1, 1]:
        return f"classes are 0 and 1; {rewritten('({y} > 0).astype(int)', name)}"
    return f"classes are counted from 0; {rewritten('{y} - {y}.min()', name)}"


def too_many(labels: Labels, classes: int, name: str) -> str:
    """Return the labels and the remedy where some are beyond the classes of the model."""
    binary = (
        " (if the loss is binary_cross_entropy, replace it by softmax_cross_entropy)"
        if classes == 2
        else ""
    )
    if labels.low == 1 and labels.is_whole:
        units = (
            ""
            if labels.high <= classes
            else f", and give the last layer {_units(labels.high)}{binary}"
        )
        return (
            f"the labels are {labels}; if they are counted from 1, count from 0; "
            f"{rewritten('{y} - 1', name)}{units}"
        )
    return f"the labels are {labels}: give the last layer {_units(labels.high + 1)}{binary}"


def _units(count: float) -> str:
    return shown(count_text(int(count), "unit"), "more units")


def one_hot(name: str) -> str:
    """Return the remedy for rows of one number a class."""
    return f"take the number of the class of each row; {rewritten('{y}.argmax(axis=1)', name)}"


def rewritten(expression: str, name: str) -> str:
    """Return a command that rewrites targets, or numpy's expression without a file of them.

    Args:
        expression: Of numpy as ``np``, with ``{y}`` for the targets.
        name: Of the file, or of an array in a file.
    """
    if not name.endswith(".npy"):
        return f"rewrite them: in numpy {expression.format(y='y')}, where y are the targets"
    target = beside(name, "classes")
    source, copy = (json.dumps(path, ensure_ascii=False) for path in (name, target))
    code = (
        f"import numpy as np; y = np.load({source}); "
        f"np.save({copy}, {expression.format(y='y')})"
    )
    return f"rewrite them: python -c {shlex.quote(code)}, then targets = {copy}"
