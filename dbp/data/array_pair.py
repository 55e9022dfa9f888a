"""Open two stored arrays, inputs and targets, as one data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dbp.data.array_dataset import ArrayDataset, TargetKind, combine
from dbp.data.dataset import DataInfo, Shape
from dbp.data.layout import TargetsLayout, arranged_info, arranged_rows, samples_last
from dbp.data.rows import Rows, RowsInfo
from dbp.errors import InvalidData
from dbp.quantities import count_text


class PairOptions(Protocol):
    """Options that the readers of two arrays share."""

    @property
    def target_kind(self) -> TargetKind:
        """Kind of the targets."""

    @property
    def layout(self) -> str | None:
        """The axes of the inputs as stored."""

    @property
    def targets_layout(self) -> TargetsLayout | None:
        """The axes of the targets as stored."""


def pair_info(
    options: PairOptions,
    inputs: RowsInfo,
    targets: RowsInfo,
    weights: RowsInfo | None = None,
    notes: tuple[str, ...] = (),
) -> DataInfo:
    """Return the DataInfo of both arrays from their headers; raises InvalidData."""
    own = arranged_info(inputs, options.layout)
    others = arranged_info(targets, options.targets_layout)
    if weights is not None:
        weights = arranged_info(weights, _weights_layout(options, weights.shape))
    try:
        notes = (*notes, *_notes(options, own.shape, others.shape))
        return combine(own, others, options.target_kind, weights=weights, notes=notes)
    except InvalidData as error:
        remedy = _remedy(options, inputs.shape, targets.shape)
        if not remedy:
            raise
        raise InvalidData(f"{error}; if samples are the last axis: {remedy}") from error


def open_pair(
    options: PairOptions,
    inputs: Callable[[], Rows],
    targets: Callable[[], Rows],
    weights: Callable[[], Rows] | None = None,
    notes: tuple[str, ...] = (),
) -> ArrayDataset:
    """Return the data set of two arrays whose headers ``pair_info`` has accepted."""
    own = arranged_rows(inputs, options.layout)
    others = arranged_rows(targets, options.targets_layout)
    return ArrayDataset(
        own,
        others,
        target_kind=options.target_kind,
        weights=None if weights is None else _open_weights(options, weights),
        notes=(*notes, *_notes(options, own.info.shape, others.info.shape)),
    )


def _open_weights(options: PairOptions, open_rows: Callable[[], Rows]) -> Rows:
    rows = open_rows()
    return arranged_rows(lambda: rows, _weights_layout(options, rows.info.shape))


def _weights_layout(options: PairOptions, shape: Shape) -> TargetsLayout | None:
    """Return the layout of the targets if weights have two axes; else None."""
    return options.targets_layout if len(shape) == 2 else None


def _remedy(options: PairOptions, inputs: Shape, targets: Shape) -> str:
    """Return the options under which inputs and targets have as many samples, or nothing."""
    if options.layout is not None or options.targets_layout is not None:
        return ""
    if len(inputs) < 2 or not targets or inputs[0] == targets[0]:
        return ""
    layout, targets_layout = f'layout = "{samples_last(inputs)}"', 'targets_layout = "CN"'
    if len(targets) == 2 and inputs[0] == targets[1]:
        return targets_layout
    if inputs[-1] == targets[0]:
        return layout
    if len(targets) == 2 and inputs[-1] == targets[1]:
        return f"{layout}, {targets_layout}"
    return ""


def _notes(options: PairOptions, inputs: Shape, targets: Shape) -> tuple[str, ...]:
    """Return a note where both arrays seem to have their samples last."""
    if options.layout is not None or len(inputs) != 2 or len(targets) != 2:
        return ()
    samples, features = inputs
    if samples >= features or targets[1] != features:
        return ()
    note = (
        f"{count_text(samples, 'sample')} of {features:,} inputs and as many targets; if there "
        f'are {features:,} samples, say layout = "CN", targets_layout = "CN"'
    )
    return (note,)
