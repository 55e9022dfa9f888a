"""The ``tsv`` reader: text with tabs between columns, otherwise like the ``csv`` reader."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from dbp.data.array_dataset import TargetKind
from dbp.data.csv import (
    CSV,
    HEADER_DOC,
    INPUTS_DOC,
    TARGET_DOC,
    TARGET_KIND_DOC,
    TARGETS_DOC,
    WEIGHT_DOC,
)
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.registry import option


@final
@dataclass(frozen=True)
class TSV(Reader):
    """Text with tabs between columns, UTF-8, one sample a line."""

    holds_all: ClassVar[bool] = True
    reads_to_inspect: ClassVar[bool] = True

    path: str = option(doc="the file, or a pattern: part-*.tsv, day-*/*.tsv", file=True)
    target: str | int = option(-1, doc=TARGET_DOC)
    targets: tuple[str, ...] | None = option(None, doc=TARGETS_DOC)
    inputs: tuple[str | int, ...] | None = option(None, doc=INPUTS_DOC)
    weight: str | int | None = option(None, doc=WEIGHT_DOC)
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    header: Literal["auto", "yes", "no"] = option("auto", doc=HEADER_DOC)

    def __post_init__(self) -> None:
        self._as_csv()

    def inspect(self) -> DataInfo:
        """Read the whole file: text has no header that gives its size."""
        return self._as_csv().inspect()

    def open(self) -> Dataset:
        return self._as_csv().open()

    def _as_csv(self) -> CSV:
        """Return the reader of the same file; raises ValueError if the options do not fit."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return CSV(**options, delimiter="\t")
