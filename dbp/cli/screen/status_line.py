"""One line on the state of a run that fits the width of a terminal.

Parts are shortened, then left out, the least needed first; a bar fills the remaining columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dbp.quantities import count_text, time_to_go_text

LEAST_BAR: Final = 8  # columns
MOST_BAR: Final = 40
GAP: Final = "  "

# In the order of the line.
_ORDER: Final = (
    "state", "note", "epoch", "bar", "step", "figure", "measure", "left_out", "version", "rate",
    "time",
)  # fmt: skip
# Parts to shorten, in this order, while the line is too long: each name moves its part to the
# next form, the last of which is empty.
_REDUCTIONS: Final = (
    "rate", "step", "figure", "measure", "version", "rate", "bar", "step", "left_out", "epoch",
    "measure", "time", "left_out", "figure", "step", "epoch", "time",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Status:
    """The state of a run; fields that are empty, 0 or None are not shown.

    ``state``: of a job; ``note``: why it waits. ``epochs``: how many are planned.
    ``skipped``: mini-batches left out of the epoch. ``ended``: no time to go is shown.
    """

    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, float] | None = None
    skipped: int = 0
    samples_per_second: float = 0.0
    seconds_to_go: float | None = None
    version: int = 0
    state: str = ""
    note: str = ""
    ended: bool = False


@final
class StatusLine:
    """A renderable of rich: the line at the width of the console."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Some terminals wrap a line that fills them.
        before, bar, after = layout(self._status, options.max_width - 1)
        grid = Table.grid(padding=0)
        drawn = ProgressBar(
            total=max(self._status.total_steps, 1),
            completed=self._status.step,
            width=bar,
            finished_style="green",  # rich's own is the grey of an empty bar in 16 colours
        )
        # Text, not str: rich would obey marks such as [link] in the note of a job.
        texts = Text(before), Text(after)
        cells = [texts[0], drawn, texts[1]] if bar else [*texts]
        for cell in cells:
            grid.add_column(no_wrap=True, width=bar if cell is drawn else None)
        grid.add_row(*cells)
        yield grid


def layout(status: Status, width: int) -> tuple[str, int, str]:
    """Return the text before the bar, the columns of the bar (0: none), the text after it."""
    forms = _forms(status)
    for name in _REDUCTIONS:
        if _length(forms) <= width:
            break
        if len(forms.get(name, [])) > 1:
            forms[name] = forms[name][1:]
    bar = 0
    if forms.get("bar", [""])[0]:
        bar = min(LEAST_BAR + width - _length(forms), MOST_BAR)
    place = _ORDER.index("bar")
    before, after = _joined(forms, _ORDER[:place]), _joined(forms, _ORDER[place + 1 :])
    if bar:
        return f"{before}{GAP}" if before else "", bar, f"{GAP}{after}" if after else ""
    text = GAP.join(filter(None, [before, after]))
    return (text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"), 0, ""


def _forms(status: Status) -> dict[str, list[str]]:
    """Return each part in all of its forms, the longest first."""
    forms: dict[str, list[str]] = {}
    if status.state:
        forms["state"] = [status.state]
    if status.note:
        forms["note"] = [status.note]
    if status.epoch:
        of = f"/{status.epochs:,}" if status.epochs else ""
        forms["epoch"] = [f"epoch {status.epoch:,}{of}", f"epoch {status.epoch:,}", ""]
    if status.total_steps:
        forms["bar"] = [" " * LEAST_BAR, ""]
        steps = f"{status.step:,}/{status.total_steps:,}"
        # Show the share of the run where the epoch does not imply it.
        share = f"{math.floor(100 * status.step / status.total_steps)} %"
        short = [share] if status.epochs <= 1 else []
        forms["step"] = [f"step {steps}", steps, *short, ""]
    for part, name, value in _figures(status.metrics or {}):
        forms[part] = [f"{name} {value:.4g}", f"{_short(name)} {value:.4g}", ""]
    if status.skipped:
        count = count_text(status.skipped, "mini-batch", "mini-batches")
        forms["left_out"] = [f"{count} left out", f"{status.skipped:,} left out", ""]
    if status.version:
        forms["version"] = [f"version {status.version:,}", ""]
    if status.samples_per_second > 0:
        rate = f"{status.samples_per_second:,.0f}"
        forms["rate"] = [f"{rate} samples/s", f"{rate}/s", ""]
    ended = status.ended or 0 < status.total_steps <= status.step
    if status.seconds_to_go is not None and not ended:
        text = time_to_go_text(status.seconds_to_go)
        forms["time"] = [text, text.removesuffix(" to go"), ""]
    return forms


def _figures(metrics: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    """Yield the training loss and the main validation metric, the validation loss where it is
    all.
    """
    if "training_loss" in metrics:
        yield "figure", "training_loss", metrics["training_loss"]
    names = [name for name in metrics if name.startswith("validation_")]
    name = next((name for name in names if name != "validation_loss"), "validation_loss")
    if name in metrics:
        yield "measure", name, metrics[name]


def _short(name: str) -> str:
    """``loss`` for the training's, ``val_accuracy`` for the validation's."""
    return name.removeprefix("training_").replace("validation_", "val_")


def _length(forms: Mapping[str, list[str]]) -> int:
    shown = [cell_len(texts[0]) for texts in forms.values() if texts[0]]
    return sum(shown) + len(GAP) * (len(shown) - 1)


def _joined(forms: Mapping[str, list[str]], names: tuple[str, ...]) -> str:
    return GAP.join(forms[name][0] for name in names if forms.get(name, [""])[0])
