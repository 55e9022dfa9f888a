"""Notes on a job's data, shown before training: the readers' decisions, and images' axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dbp.data.dataset import DataInfo
from dbp.data.layout import looks_channels_last
from dbp.job.resolved import ResolvedSpec
from dbp.nn.average_pool2d import AveragePool2D
from dbp.nn.batch_norm import BatchNorm
from dbp.nn.conv2d import Conv2D
from dbp.nn.flatten import Flatten
from dbp.nn.global_average_pool2d import GlobalAveragePool2D
from dbp.nn.layer import Layer
from dbp.nn.max_pool2d import MaxPool2D
from dbp.nn.residual import Residual

# Layers that take the first axis of a sample for its channels.
_OF_CHANNELS: Final = (Conv2D, MaxPool2D, AveragePool2D, GlobalAveragePool2D, BatchNorm)


def data_notes(
    resolved: ResolvedSpec, train: DataInfo, validation: DataInfo | None, test: DataInfo | None
) -> tuple[str, ...]:
    """The notes of each data set, with the path of its field, and one on images' channels.

    ``validation``: None where it is held out of the training set.
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
    """Of columns that are matched to those of ``source`` by position, as one has no names."""
    if bool(names) == bool(info.input_names):
        return ()
    here, there = ("no names", "names") if names else ("names", "no names")
    return (f"columns have {here} here and {there} in {source}: they are matched by position",)


def channels_note(resolved: ResolvedSpec, train: DataInfo) -> str | None:
    """Of images with channels last in front of a layer that takes them first."""
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
