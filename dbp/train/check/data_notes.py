"""Notes on the data of a job, shown before training: decisions of readers, axes of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dbp.data.dataset import DataInfo
from dbp.data.layout import looks_channels_last
from dbp.nn.average_pool2d import AveragePool2D
from dbp.nn.batch_norm import BatchNorm
from dbp.nn.conv2d import Conv2D
from dbp.nn.flatten import Flatten
from dbp.nn.global_average_pool2d import GlobalAveragePool2D
from dbp.nn.layer import Layer
from dbp.nn.max_pool2d import MaxPool2D
from dbp.nn.residual import Residual
from dbp.train.run_spec import RunSpec

# Layers that use the first axis of a sample as its channels.
_OF_CHANNELS: Final = (Conv2D, MaxPool2D, AveragePool2D, GlobalAveragePool2D, BatchNorm)


def data_notes(
    resolved: RunSpec, train: DataInfo, validation: DataInfo | None, test: DataInfo | None
) -> tuple[str, ...]:
    """Return the notes of each data set, with the path of its field, and on image axes.

    ``validation`` is None if it is held out of the training set.
    """
    sets = {"data.train": train, "data.validation": validation, "data.test": test}
    notes = [
        f"{path}: {note}"
        for path, info in sets.items()
        if info is not None
        for note in (*info.notes, *unnamed_notes(train.input_names, info, "data.train"))
    ]
    channels = channels_note(resolved, train)
    return tuple(notes) if channels is None else (*notes, f"data.train: {channels}")


def unnamed_notes(names: Sequence[str], info: DataInfo, source: str) -> tuple[str, ...]:
    """Return a note if columns are matched to ``source`` by position for lack of names."""
    if bool(names) == bool(info.input_names):
        return ()
    here, there = ("no names", "names") if names else ("names", "no names")
    return (f"columns have {here} here and {there} in {source}: they are matched by position",)


def channels_note(resolved: RunSpec, train: DataInfo) -> str | None:
    """Return a note if samples look channels-last but the first image layer needs NCHW."""
    if not looks_channels_last(train.input_shape):
        return None
    for layer, kind in zip(resolved.layers, resolved.layer_kinds, strict=True):
        if isinstance(layer, Flatten):
            return None
        if _is_of_channels(layer):
            is_array = hasattr(resolved.train_reader, "layout")
            remedy = 'layout = "NHWC"' if is_array else "transpose the samples"
            return (
                f"samples of shape {train.input_shape} look like images with channels last, "
                f"but {kind} takes (channels, height, width); if so: {remedy}"
            )
    return None


def _is_of_channels(layer: Layer) -> bool:
    if isinstance(layer, Residual):
        return any(map(_is_of_channels, layer.layers))
    return isinstance(layer, _OF_CHANNELS)
