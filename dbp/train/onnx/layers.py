"""Translate dense, embedding, normalization and residual layers to ONNX."""

from __future__ import annotations

import numpy as np
import onnx

from dbp.nn.batch_norm import BatchNorm
from dbp.nn.dense import Dense
from dbp.nn.embedding import Embedding
from dbp.nn.flatten import Flatten
from dbp.nn.layer import within
from dbp.nn.layer_norm import LayerNorm
from dbp.nn.residual import Residual
from dbp.train.onnx.graph import Graph
from dbp.train.onnx.translate import Place, translate


@translate.register
def dense(layer: Dense, graph: Graph, place: Place) -> str:
    """Gemm, after Flatten if a sample has another shape than (in,)."""
    x = place.x if len(place.input_shape) == 1 else graph.node("Flatten", place.x, axis=1)
    return graph.node("Gemm", x, *place.own(graph, "weight", "bias"), transB=1)


@translate.register
def embedding(layer: Embedding, graph: Graph, place: Place) -> str:
    """Gather, with NaN for inputs that are not whole numbers in range."""
    zero = graph.constant(place.called("zero"), 0.0)
    count = graph.constant(place.called("count"), layer.count)
    nan = graph.constant(place.called("nan"), np.nan)
    whole = graph.node("Equal", place.x, graph.node("Floor", place.x))
    inside = graph.node(
        "And",
        graph.node("GreaterOrEqual", place.x, zero),
        graph.node("Less", place.x, count),
    )
    known = graph.node("And", whole, inside)
    sound = graph.node("Where", known, place.x, zero)
    rows = graph.node("Cast", sound, to=onnx.TensorProto.INT64)
    found = graph.node("Gather", *place.own(graph, "weight"), rows, axis=0)
    last = graph.integers(place.called("last"), [-1])
    return graph.node("Where", graph.node("Unsqueeze", known, last), found, nan)


@translate.register
def flatten(layer: Flatten, graph: Graph, place: Place) -> str:
    """Flatten, with the batch as the first axis."""
    return graph.node("Flatten", place.x, axis=1)


@translate.register
def batch_norm(layer: BatchNorm, graph: Graph, place: Place) -> str:
    """BatchNormalization with the running statistics."""
    mean, variance = place.parameters["running_mean"], place.parameters["running_var"]
    weight = place.parameters["weight"] if layer.affine else np.ones_like(mean)
    bias = place.parameters["bias"] if layer.affine else np.zeros_like(mean)
    if not graph.wide:
        named = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
        inputs = [graph.constant(place.called(name), named[name]) for name in named]
        return graph.node("BatchNormalization", place.x, *inputs, epsilon=layer.epsilon)
    shape = (-1, *(1,) * (len(place.input_shape) - 1))
    inverse = 1 / np.sqrt(variance + layer.epsilon)
    shifted = graph.node(
        "Sub", place.x, graph.constant(place.called("running_mean"), mean.reshape(shape))
    )
    slope = graph.constant(place.called("slope"), (inverse * weight).reshape(shape))
    scaled = graph.node("Mul", shifted, slope)
    return graph.node("Add", scaled, graph.constant(place.called("bias"), bias.reshape(shape)))


@translate.register
def layer_norm(layer: LayerNorm, graph: Graph, place: Place) -> str:
    """LayerNormalization over all axes of a sample."""
    if not graph.wide:
        scale = place.parameters.get("weight", np.ones(place.input_shape))
        inputs = [graph.constant(place.called("weight"), scale), *place.own(graph, "bias")]
        return graph.node("LayerNormalization", place.x, *inputs, axis=1, epsilon=layer.epsilon)
    axes = graph.integers(place.called("axes"), range(1, 1 + len(place.input_shape)))
    epsilon = graph.constant(place.called("epsilon"), layer.epsilon)
    normal = graph.node("Sub", place.x, graph.node("ReduceMean", place.x, axes))
    variance = graph.node("ReduceMean", graph.node("Mul", normal, normal), axes)
    spread = graph.node("Sqrt", graph.node("Add", variance, epsilon))
    y = graph.node("Div", normal, spread)
    if layer.scale:
        y = graph.node("Mul", y, *place.own(graph, "weight"))
    if layer.bias:
        y = graph.node("Add", y, *place.own(graph, "bias"))
    return y


@translate.register
def residual(layer: Residual, graph: Graph, place: Place) -> str:
    """The inner layers in sequence, then Add with the input."""
    x, shape = place.x, place.input_shape
    for position, inner in enumerate(layer.layers):
        own = within(place.parameters, str(position))
        x = translate(inner, graph, Place(place.called(str(position)), x, shape, own))
        shape = inner.output_shape(shape)
    return graph.node("Add", place.x, x)
