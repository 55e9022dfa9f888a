"""Choose one kind of targets for several files or data sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from dbp.data.dataset import DataInfo, Reader

_Reader = TypeVar("_Reader", bound=Reader)


def reader_of_kind(reader: _Reader, kind: str) -> _Reader:
    """Return the reader with its targets read as ``kind``, if its options leave that open.

    Whether targets are whole numbers by chance in one file does not decide what they are:
    those of a test set are read as those of the training set.
    """
    if getattr(reader, "target_kind", "") != "auto":
        return reader
    try:
        return dataclasses.replace(reader, target_kind=kind)  # type: ignore[type-var]
    except ValueError:  # several columns of targets are no class
        return reader


def mixed_kinds(infos: Sequence[DataInfo]) -> list[int]:
    """Return which parts hold whole numbers where others hold numbers that are not whole.

    Names of classes are no numbers: parts that have them are not among those returned.
    """
    kinds = {info.target_kind for info in infos}
    if kinds != {"class", "values"} or any(info.class_names for info in infos):
        return []
    return [place for place, info in enumerate(infos) if info.target_kind == "class"]
