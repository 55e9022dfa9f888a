"""Check that the classes of a data set fit a model, or another data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Array, Dataset, Indices
from dbp.data.labels import Labels, too_many
from dbp.data.quoting import hint, listed, shown
from dbp.errors import InvalidData, nearest
from dbp.quantities import count_text

_ROWS = 65_536


def check_targets(dataset: Dataset, classes: int) -> None:
    """Raise InvalidData naming the first target outside 0 .. classes-1: file and place.

    A source that guarantees fewer classes is not read: it may have 10**12 samples.
    """
    if dataset.info.classes is not None and dataset.info.classes <= classes:
        return
    for start, targets in _targets(dataset):
        bad = targets >= classes
        if bad.any():
            first = int(np.argmax(bad))
            raise InvalidData(
                f"{dataset.locate_target(start + first)}: class "
                f"{shown(targets[first], 'number too large')}, but "
                f"the model has outputs for {count_text(classes, 'class', 'classes')}: "
                f"allowed 0 to {classes - 1}; {_remedy(dataset, classes, targets)}"
            )


def _remedy(dataset: Dataset, classes: int, bad: Indices) -> str:
    """Return the labels that occur, among them those of the block ``bad``, and the remedy."""
    blocks = (targets for _, targets in _targets(dataset))
    found = Labels.of(itertools.chain([bad], blocks))
    return too_many(found, classes, dataset.info.targets_name)


def count_classes(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return how often each class occurs, from class 0 to the highest that occurs or has a
    name.
    """
    counts = np.zeros(len(dataset.info.class_names), np.int64)
    for _, targets in _targets(dataset):
        found = np.bincount(targets, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return counts


def align_classes(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """Return the data set with its classes numbered as in ``names``, those of the training set.

    Two text files number the names they hold: without this a test set that lacks one class
    would count every later one wrong. Raises InvalidData for a name not in ``names``, and
    for names on one side and numbers on the other.
    """
    own = dataset.info.class_names
    if own == names or (not own and _are_numbers(names)):
        return dataset
    if not own:
        raise InvalidData(
            f"{dataset.locate_target(0)}: classes are numbers here, but names in the training "
            f"set ({listed(names, 20, 'name')}); write the names"
        )
    if not names:
        if _are_numbers(own):
            return dataset
        raise InvalidData(
            f"{dataset.locate_target(0)}: classes have names here "
            f"({listed(own, 5, 'name')}), but "
            "numbers in the training set"
        )
    numbers = {name: number for number, name in enumerate(names)}
    for name in own:
        if name not in numbers:
            raise InvalidData(
                f"{_first_of(dataset, own.index(name))}: class "
                f"{shown(repr(name), 'name')} does not occur in the "
                f"training set{hint(nearest(name, names))}; it has {listed(names, 20, 'name')}"
            )
    return _Renumbered(dataset, names, np.array([numbers[name] for name in own]))


def _are_numbers(names: tuple[str, ...]) -> bool:
    """Return whether there are no names, or each is its class's number."""
    return names == tuple(str(number) for number in range(len(names)))


@final
class _Renumbered(Dataset):
    """Another data set, its classes renumbered."""

    def __init__(self, dataset: Dataset, names: tuple[str, ...], numbers: Indices) -> None:
        self.info = replace(dataset.info, class_names=names)
        self._dataset = dataset
        self._numbers = numbers

    def take_inputs(self, indices: Indices, out: Array) -> None:
        self._dataset.take_inputs(indices, out)

    def take_targets(self, indices: Indices, out: Array) -> None:
        own = np.empty(len(indices), np.int64)
        self._dataset.take_targets(indices, own)
        out[...] = self._numbers[own].reshape(out.shape)

    def take_weights(self, indices: Indices, out: Array) -> None:
        self._dataset.take_weights(indices, out)

    def locate_target(self, index: int) -> str:
        return self._dataset.locate_target(index)

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        return self._dataset.locate_input(index, place)


def _targets(dataset: Dataset) -> Iterator[tuple[int, Indices]]:
    for start in range(0, len(dataset), _ROWS):
        indices = np.arange(start, min(start + _ROWS, len(dataset)))
        targets = np.empty(len(indices), np.int64)
        dataset.take_targets(indices, targets)
        yield start, targets


def _first_of(dataset: Dataset, number: int) -> str:
    """Return the place of the first sample of a class."""
    for start, targets in _targets(dataset):
        found = np.flatnonzero(targets == number)
        if found.size:
            return dataset.locate_target(start + int(found[0]))
    return dataset.locate_target(0)
