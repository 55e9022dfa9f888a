"""Convert stored arrays to the order of axes that models take.

Letters are those of oneDNN and ONNX: N samples, C channels or features, D depth, H height, W
width. Models take N, C, D, H, W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Literal, final

import numpy as np

from dbp.data.dataset import Array, Indices, Shape
from dbp.data.rows import MemoryRows, Rows, RowsInfo
from dbp.errors import InvalidData
from dbp.quantities import count_text

_ORDER: Final = "NCDHW"

LAYOUT_DOC: Final = (
    "axes of the inputs as stored, if not samples first, then channels: N samples, C channels "
    "or features, D depth, H height, W width. NHWC: channels last; NHW: one channel, no axis "
    "for it; CN, HWCN: samples last (MATLAB); NCWH: MATLAB's HWCN in a .mat file of v7.3, read "
    "by hdf5. The model takes N, C, D, H, W. Samples that are not first are read into memory"
)
TargetsLayout = Literal["NC", "CN"]
TARGETS_LAYOUT_DOC: Final = (
    "axes of targets, and of weights, with two axes as stored: NC samples first; CN samples "
    "last (MATLAB)"
)


def check_layout(layout: str | None) -> None:
    """Raise ValueError for a layout that names no axes of inputs."""
    if layout is None:
        return
    known = set(layout) <= set(_ORDER) and len(set(layout)) == len(layout)
    if not known or "N" not in layout or len(layout) < 2:
        hint = {"channels_last": "; channels last is NHWC", "channels_first": "; that is NCHW"}
        upper = layout.upper()
        if layout.islower() and "N" in upper and set(upper) <= set(_ORDER):
            hint = {layout: f"; write {upper!r}"}
        raise ValueError(
            "layout: must name the stored axes in their order, each once and N among them, by "
            "the letters N (samples), C (channels or features), D, H, W: NHWC, HWCN, CN, ...; "
            f"got {layout[:40]!r}{hint.get(layout.lower(), '')}"
        )


def arranged_info(info: RowsInfo, layout: str | None) -> RowsInfo:
    """Return the shape as models take it; InvalidData if the layout has other axes."""
    if layout is None:
        return info
    if len(layout) != len(info.shape):
        raise InvalidData(
            f"{info.name}: shape {info.shape} has "
            f"{count_text(len(info.shape), 'axis', 'axes')}, "
            f'but layout = "{layout}" names {len(layout)}'
        )
    return replace(info, shape=_Axes(layout).shape(info.shape))


def arranged_rows(open_rows: Callable[[], Rows], layout: str | None) -> Rows:
    """Return rows in the order that models take; raises InvalidData.

    Where the samples are the first axis, a file that is read row by row stays so; else all of
    it is read into memory.
    """
    if layout is None:
        return open_rows()
    try:
        rows = open_rows()
        info, axes = arranged_info(rows.info, layout), _Axes(layout)
        if layout[0] == "N" and not isinstance(rows, MemoryRows):
            return _ArrangedRows(rows, info, axes)
        return MemoryRows(info.name, axes.arrange(_whole(rows)))
    except InvalidData as error:
        raise InvalidData(
            f'{error} (places as stored, in the order of layout = "{layout}")'
            if ": sample " in str(error)
            else str(error)
        ) from error


@final
class _Axes:
    """The permutation from a layout's axes to the model's; images without C get one channel."""

    def __init__(self, layout: str) -> None:
        self._order = tuple(layout.index(axis) for axis in _ORDER if axis in layout)
        self._adds_channel = "C" not in layout

    def shape(self, stored: Shape) -> Shape:
        """Return the shape after ``arrange``."""
        shape = tuple(stored[axis] for axis in self._order)
        return (shape[0], 1, *shape[1:]) if self._adds_channel else shape

    def arrange(self, array: Array) -> Array:
        """Return a view in the model's order."""
        arranged = array.transpose(self._order)
        return arranged[:, np.newaxis] if self._adds_channel else arranged


@final
class _ArrangedRows(Rows):
    """Rows whose axes are reordered when they are read."""

    def __init__(self, rows: Rows, info: RowsInfo, axes: _Axes) -> None:
        self.info = info
        self._rows = rows
        self._axes = axes

    def take(self, indices: Indices, out: Array) -> None:
        """Read these rows, then arrange them."""
        stored = self._rows.info
        buffer = np.empty((len(indices), *stored.shape[1:]), stored.dtype)
        self._rows.take(indices, buffer)
        np.copyto(out, self._axes.arrange(buffer), casting="unsafe")

    def block(self, start: int, stop: int) -> Array:
        """Return a view of a newly read array."""
        return self._axes.arrange(self._rows.block(start, stop))


def _whole(rows: Rows) -> Array:
    """Read a whole array into memory, in its stored order."""
    if isinstance(rows, MemoryRows):
        return rows.block(0, rows.info.shape[0])
    whole = np.empty(rows.info.shape, rows.info.dtype)
    for start, block in rows.blocks():
        whole[start : start + len(block)] = block
    return whole


def looks_channels_last(shape: Shape) -> bool:
    """Return whether a sample of this shape seems to be an image with its channels last."""
    if len(shape) != 3:
        return False
    height, width, channels = shape
    return channels in (1, 3, 4) and channels < min(height, width) and height > 4


def samples_last(shape: Shape) -> str:
    """Return the layout of an array of this shape whose samples are the last axis."""
    names = {2: "CN", 3: "HWN", 4: "HWCN", 5: "DHWCN"}
    if len(shape) == 4 and math.prod(shape[1:3]) > math.prod(shape[:2]):
        return "CHWN"
    return names.get(len(shape), "...N")


def matlab_notes(name: str, shape: Shape) -> tuple[str, ...]:
    """Return a note on an array of this shape that MATLAB wrote, if its sizes may hide its
    order.

    MATLAB stores the last axis first: images of height x width have their width first.
    """
    layouts = {3: "NWH", 4: "NCWH", 5: "NCDWH"}
    if len(shape) == 2 and shape[0] == shape[1]:
        layouts[2] = "CN"
    if len(shape) not in layouts:
        return ()
    layout = layouts[len(shape)]
    note = (
        f"{name} was {_by(shape[::-1])} in MATLAB and is stored in reverse, as {_by(shape)}; "
        f'if it was {_by(layout[::-1])} there, say layout = "{layout}"'
    )
    return (note,)


def _by(sizes: Iterable[object]) -> str:
    return " x ".join(map(str, sizes))
