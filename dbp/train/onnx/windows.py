"""Translate convolution and pooling layers to ONNX."""

from __future__ import annotations

from typing import Any

from dbp.nn.average_pool2d import AveragePool2D
from dbp.nn.conv2d import Conv2D
from dbp.nn.global_average_pool2d import GlobalAveragePool2D
from dbp.nn.max_pool2d import MaxPool2D
from dbp.nn.window import Window, pair
from dbp.train.onnx.graph import Graph
from dbp.train.onnx.translate import Place, translate


@translate.register
def conv2d(layer: Conv2D, graph: Graph, place: Place) -> str:
    """Conv; in float64 a matrix product with the windows as columns."""
    window = Window(
        pair("kernel", layer.kernel, 1),
        pair("stride", layer.stride, 1),
        pair("padding", layer.padding, 0),
        pair("dilation", layer.dilation, 1),
    )
    if graph.wide:
        return _product(layer, window, graph, place)
    inputs = [place.x, *place.own(graph, "weight", "bias")]
    return graph.node(
        "Conv", *inputs, **_attributes(window), dilations=window.dilation, group=layer.groups
    )


@translate.register
def max_pool2d(layer: MaxPool2D, graph: Graph, place: Place) -> str:
    """MaxPool with the layer's window."""
    return graph.node("MaxPool", place.x, **_attributes(_pool_window(layer)))


@translate.register
def average_pool2d(layer: AveragePool2D, graph: Graph, place: Place) -> str:
    """AveragePool that counts padding as zeros; in float64 a mean of the window elements."""
    window = _pool_window(layer)
    if not graph.wide:
        return graph.node("AveragePool", place.x, count_include_pad=1, **_attributes(window))
    total = graph.node("Sum", *_taps(window, graph, place))
    share = graph.constant(place.called("share"), 1 / (window.kernel[0] * window.kernel[1]))
    return graph.node("Mul", total, share)


@translate.register
def global_average_pool2d(layer: GlobalAveragePool2D, graph: Graph, place: Place) -> str:
    """ReduceMean over height and width."""
    axes = graph.integers(place.called("axes"), (2, 3))
    return graph.node("ReduceMean", place.x, axes, keepdims=0)


def _pool_window(layer: MaxPool2D | AveragePool2D) -> Window:
    stride = layer.kernel if layer.stride is None else layer.stride
    return Window(
        pair("kernel", layer.kernel, 1),
        pair("stride", stride, 1),
        pair("padding", layer.padding, 0),
    )


def _attributes(window: Window) -> dict[str, Any]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": 2 * window.padding,
    }


def _taps(window: Window, graph: Graph, place: Place) -> list[str]:
    """Add a slice of the images for each window element, (batch, channels, *places)."""
    x = place.x
    if window.padding != (0, 0):
        pads = 2 * (0, 0, *window.padding)
        x = graph.node("Pad", x, graph.integers(place.called("pads"), pads))
    axes = graph.integers(place.called("axes"), (2, 3))
    strides = graph.integers(place.called("strides"), window.stride)
    taps = []
    for i, j, rows, columns in window.taps(window.positions(place.input_shape)):
        name = place.called(f"tap.{i}.{j}")
        starts = graph.integers(f"{name}.starts", (rows.start, columns.start))
        stops = graph.integers(f"{name}.stops", (rows.stop, columns.stop))
        taps.append(graph.node("Slice", x, starts, stops, axes, strides))
    return taps


def _product(layer: Conv2D, window: Window, graph: Graph, place: Place) -> str:
    """Add the convolution as the matrix product of ``dbp.nn.conv2d``."""
    places = window.positions(place.input_shape)
    weight = place.parameters["weight"]
    outputs = layer.filters // layer.groups
    weight = weight.reshape(layer.groups, outputs, -1)
    axis = graph.integers(place.called("axis_after_channels"), (2,))
    taps = [graph.node("Unsqueeze", tap, axis) for tap in _taps(window, graph, place)]
    shape = (0, layer.groups, weight.shape[2], places[0] * places[1])  # 0: keep the batch size
    columns = graph.node(
        "Reshape",
        graph.node("Concat", *taps, axis=2),
        graph.integers(place.called("columns"), shape),
    )
    y = graph.node("MatMul", graph.constant(place.called("weight"), weight), columns)
    if layer.bias:
        bias = place.parameters["bias"].reshape(layer.groups, outputs, 1)
        y = graph.node("Add", y, graph.constant(place.called("bias"), bias))
    images = graph.integers(place.called("images"), (0, layer.filters, *places))
    return graph.node("Reshape", y, images)
