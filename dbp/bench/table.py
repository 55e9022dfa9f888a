"""Figures as tables: text for terminals, Markdown for documents."""

from __future__ import annotations

from typing import Final

from dbp.bench.column import COLUMNS
from dbp.bench.figures import BEST_PEER, RATIOS, Figures, Ratio, Spread, WorkloadFigures
from dbp.bench.machine import facts_text
from dbp.bench.workload import TITLES
from dbp.text_table import aligned

HEADING: Final = ("milliseconds a step", "median", "least", "most", "loss", "settings")


def text(figures: Figures) -> str:
    """Return a table for each workload, with its ratios and the reasons of gaps."""
    lines = [facts_text(figures.machine)]
    for name, workload in figures.workloads.items():
        lines += ["", f"{name}: {TITLES[name]}", *_of_workload(workload)]
    return "\n".join([*lines, *(f"\nWRONG: {odd}" for odd in figures.odd_losses())])


def _of_workload(workload: WorkloadFigures) -> list[str]:
    rows, notes = [HEADING], []
    for name, column in workload.columns.items():
        if column.time is None:
            notes.append(f"  {name}: {column.missing}")
            continue
        times = column.time.median, column.time.least, column.time.most
        loss = "-" if column.loss is None else f"{column.loss:.4f}"
        shown = [_milliseconds(value) for value in times]
        rows.append((name, shown[0], shown[1], shown[2], loss, COLUMNS[name].settings))
    ratios = [
        f"  {name}: {_interval(ratio.value)}{_named(name, ratio)}"
        for name, ratio in workload.ratios.items()
    ]
    return [
        *(f"  {line}" for line in aligned(rows, left=(0, len(HEADING) - 1))),
        *notes,
        *ratios,
    ]


def markdown(figures: Figures) -> str:
    """Return one table, whose columns are the workloads, then the reasons of gaps."""
    tables = figures.workloads
    lines = [
        f"| milliseconds a step | {' | '.join(tables)} |",
        "|---" * (len(tables) + 1) + "|",
    ]
    names = list(dict.fromkeys(name for table in tables.values() for name in table.columns))
    for name in names:
        times = [table.columns[name].time for table in tables.values()]
        cells = ["-" if time is None else _time(time) for time in times]
        lines.append(f"| {name}: {COLUMNS[name].settings} | {' | '.join(cells)} |")
    for name in RATIOS:
        ratios = [table.ratios.get(name) for table in tables.values()]
        cells = [
            "-" if ratio is None else _interval(ratio.value) + _named(name, ratio)
            for ratio in ratios
        ]
        lines.append(f"| **{name}** | {' | '.join(cells)} |")
    for name in names:
        losses = [table.columns[name].loss for table in tables.values()]
        if any(loss is not None for loss in losses):
            cells = ["-" if loss is None else f"{loss:.4f}" for loss in losses]
            lines.append(f"| loss of the last step, {name} | {' | '.join(cells)} |")
    gaps = {
        f"- {workload}, {name}: {column.missing}"
        for workload, table in tables.items()
        for name, column in table.columns.items()
        if column.time is None
    }
    return "\n".join([*lines, *([""] if gaps else []), *sorted(gaps)])


def _named(name: str, ratio: Ratio) -> str:
    return f", {ratio.above}" if name == BEST_PEER else ""


def _time(time: Spread) -> str:
    least, most = _milliseconds(time.least), _milliseconds(time.most)
    return f"{_milliseconds(time.median)} ({least} to {most})"


def _interval(value: Spread) -> str:
    return f"{value.median:.2f} ({value.least:.2f} to {value.most:.2f})"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
