"""The figures of measured rounds: medians, spreads, ratios and losses; kept as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

from dbp.bench.column import ALONE, DDP, EXACT, ONE_CORE, PEERS, PRODUCTS
from dbp.bench.rounds import Measured
from dbp.errors import InvalidFile
from dbp.json_value import JsonObject

BEST_PEER: Final = "best peer / exact"
# Name -> the column above and the column below the line; the best peer is chosen by median.
RATIOS: Final[Mapping[str, tuple[str, str]]] = {
    BEST_PEER: ("", EXACT),
    "DDP / exact": (DDP, EXACT),
    "products / exact": (PRODUCTS, EXACT),
    "fast / exact": ("fast", EXACT),
    "compute alone / exact": (ALONE, EXACT),
    "1 core: PyTorch / exact": (ONE_CORE[1], ONE_CORE[0]),
}
LOSS_TOLERANCE: Final = 0.05  # relative; sums in another order drift apart over the steps


@final
@dataclass(frozen=True)
class Spread:
    """The median of some values, the least and the largest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def width(self) -> float:
        """The largest value less the least."""
        return self.most - self.least


@final
@dataclass(frozen=True)
class ColumnFigures:
    """Milliseconds a step of one column, by round, and its loss; ``missing``: why not."""

    rounds: tuple[float | None, ...] = ()
    time: Spread | None = None
    loss: float | None = None
    missing: str = ""


@final
@dataclass(frozen=True)
class Ratio:
    """A quotient of two columns' times in the same rounds; ``above`` is the upper column."""

    value: Spread
    above: str


@final
@dataclass(frozen=True)
class WorkloadFigures:
    """The columns and the ratios of one workload; a ratio above 1 means that dbp leads."""

    columns: Mapping[str, ColumnFigures]
    ratios: Mapping[str, Ratio]


@final
@dataclass(frozen=True)
class Figures:
    """All figures of one measurement on ``cores`` cores."""

    machine: JsonObject
    cores: int
    workloads: Mapping[str, WorkloadFigures]

    @classmethod
    def of(cls, measured: Measured, machine: JsonObject, cores: int) -> Self:
        """Return the figures of measured rounds."""
        names = dict.fromkeys(workload for workload, _ in measured.samples)
        return cls(machine, cores, {name: _of_workload(measured, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the figures in a file. Raises InvalidFile."""
        try:
            table = json.loads(path.read_text())
            workloads = {
                name: WorkloadFigures(
                    {key: _column(value) for key, value in each["columns"].items()},
                    {
                        key: Ratio(Spread(**value["value"]), value["above"])
                        for key, value in each["ratios"].items()
                    },
                )
                for name, each in table["workloads"].items()
            }
            return cls(table["machine"], table["cores"], workloads)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidFile(f"{path}: holds no figures: {error}") from error

    def odd_losses(self) -> list[str]:
        """Return a sentence for each column whose loss differs from that of ``exact``."""
        found = []
        for name, workload in self.workloads.items():
            expected = workload.columns[EXACT].loss if EXACT in workload.columns else None
            for column, figures in workload.columns.items():
                if expected is None or figures.loss is None:
                    continue
                if not abs(figures.loss - expected) <= LOSS_TOLERANCE * max(expected, 1e-3):
                    found.append(
                        f"{name}: {column} ends with loss {figures.loss:.4f}, {EXACT} with "
                        f"{expected:.4f}: they do not train the same"
                    )
        return found

    def fallen(self, before: Self) -> list[str]:
        """Return a sentence for each ratio that fell by more than its spread since ``before``.

        The spread is the larger one of the two measurements.
        """
        found = []
        for name, old in before.workloads.items():
            new = self.workloads.get(name)
            for ratio, then in old.ratios.items():
                now = None if new is None else new.ratios.get(ratio)
                if now is None:
                    continue
                fall = then.value.median - now.value.median
                spread = max(then.value.width, now.value.width)
                if fall > spread:
                    found.append(
                        f"{name}: {ratio} fell from {then.value.median:.3f} to "
                        f"{now.value.median:.3f}, by more than the spread of {spread:.3f}"
                    )
        return found


def _of_workload(measured: Measured, name: str) -> WorkloadFigures:
    columns: dict[str, ColumnFigures] = {}
    for (workload, column), samples in measured.samples.items():
        if workload != name:
            continue
        rounds = tuple(None if s is None else 1e3 * s.seconds for s in samples)
        known = [value for value in rounds if value is not None]
        if not known:
            missing = measured.missing.get((name, column), "not measured")
            columns[column] = ColumnFigures(missing=missing)
            continue
        losses = [s.loss for s in samples if s is not None and s.loss is not None]
        loss = statistics.median(losses) if losses else None
        columns[column] = ColumnFigures(rounds, Spread.of(known), loss)
    return WorkloadFigures(columns, _ratios(columns))


def _ratios(columns: Mapping[str, ColumnFigures]) -> dict[str, Ratio]:
    """Return the ratios that can be computed."""
    medians = {name: each.time.median for name, each in columns.items() if each.time}
    peers = [name for name in PEERS if name in medians]
    best = min(peers, key=lambda name: medians[name], default="")
    ratios = {}
    for name, (named, below) in RATIOS.items():
        above = named or best
        if above not in medians or below not in medians:
            continue
        pairs = zip(columns[above].rounds, columns[below].rounds, strict=True)
        quotients = [a / b for a, b in pairs if a is not None and b is not None]
        if quotients:
            ratios[name] = Ratio(Spread.of(quotients), above)
    return ratios


def _column(values: dict[str, Any]) -> ColumnFigures:
    time = values["time"]
    return ColumnFigures(
        tuple(values["rounds"]), None if time is None else Spread(**time), values["loss"],
        values["missing"],
    )  # fmt: skip
