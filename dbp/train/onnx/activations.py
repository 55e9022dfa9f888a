"""Translate activation layers, softmax and dropout to ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dbp.nn.dropout import Dropout
from dbp.nn.elu import ELU
from dbp.nn.error_function import (
    DENOMINATOR,
    LARGEST,
    NUMERATOR,
    SMALL,
    SMALL_DENOMINATOR,
    SMALL_NUMERATOR,
)
from dbp.nn.gelu import CUBE, GELU, ROOT
from dbp.nn.hard_sigmoid import HardSigmoid
from dbp.nn.identity import Identity
from dbp.nn.leaky_relu import LeakyReLU
from dbp.nn.relu import ReLU
from dbp.nn.selu import ALPHA, SCALE, SELU
from dbp.nn.sigmoid import Sigmoid
from dbp.nn.silu import SiLU
from dbp.nn.softmax import Softmax
from dbp.nn.softplus import Softplus
from dbp.nn.tanh import Tanh
from dbp.train.onnx.graph import Graph
from dbp.train.onnx.translate import Place, translate


@translate.register
def dropout(layer: Dropout, graph: Graph, place: Place) -> str:
    """No node: evaluation returns x unchanged."""
    return place.x


@translate.register
def identity(layer: Identity, graph: Graph, place: Place) -> str:
    """No node: the output is x."""
    return place.x


@translate.register
def relu(layer: ReLU, graph: Graph, place: Place) -> str:
    """Relu, as the operator defines it."""
    return graph.node("Relu", place.x)


@translate.register
def tanh(layer: Tanh, graph: Graph, place: Place) -> str:
    """Tanh, as the operator defines it."""
    return graph.node("Tanh", place.x)


@translate.register
def sigmoid(layer: Sigmoid, graph: Graph, place: Place) -> str:
    """Sigmoid, as the operator defines it."""
    return graph.node("Sigmoid", place.x)


@translate.register
def silu(layer: SiLU, graph: Graph, place: Place) -> str:
    """The product of x and its Sigmoid."""
    return graph.node("Mul", place.x, graph.node("Sigmoid", place.x))


@translate.register
def softmax(layer: Softmax, graph: Graph, place: Place) -> str:
    """Softmax over the last axis."""
    return graph.node("Softmax", place.x, axis=-1)


@translate.register
def softplus(layer: Softplus, graph: Graph, place: Place) -> str:
    """Softplus; in float64 Relu(x) + log(1 + exp(-|x|)), which never overflows."""
    if not graph.wide:
        return graph.node("Softplus", place.x)
    falling = graph.node("Exp", graph.node("Neg", graph.node("Abs", place.x)))
    one = graph.constant(place.called("one"), 1.0)
    rest = graph.node("Log", graph.node("Add", falling, one))
    return graph.node("Add", graph.node("Relu", place.x), rest)


@translate.register
def elu(layer: ELU, graph: Graph, place: Place) -> str:
    """Elu; in float64 composed of arithmetic nodes."""
    if not graph.wide:
        return graph.node("Elu", place.x, alpha=layer.alpha)
    return _exponential_linear(graph, place, alpha=layer.alpha, scale=1.0)


@translate.register
def selu(layer: SELU, graph: Graph, place: Place) -> str:
    """Selu; in float64 composed of arithmetic nodes."""
    if not graph.wide:
        return graph.node("Selu", place.x, alpha=ALPHA, gamma=SCALE)
    return _exponential_linear(graph, place, alpha=ALPHA, scale=SCALE)


@translate.register
def leaky_relu(layer: LeakyReLU, graph: Graph, place: Place) -> str:
    """LeakyRelu; in float64 composed of arithmetic nodes."""
    if not graph.wide:
        return graph.node("LeakyRelu", place.x, alpha=layer.slope)
    slope = graph.constant(place.called("slope"), layer.slope)
    return _where_positive(graph, place, place.x, graph.node("Mul", place.x, slope))


@translate.register
def hard_sigmoid(layer: HardSigmoid, graph: Graph, place: Place) -> str:
    """HardSigmoid; in float64 composed of arithmetic nodes."""
    if not graph.wide:
        return graph.node("HardSigmoid", place.x, alpha=1 / 6, beta=0.5)
    sixth = graph.constant(place.called("sixth"), 1 / 6)
    half = graph.constant(place.called("half"), 0.5)
    line = graph.node("Add", graph.node("Mul", place.x, sixth), half)
    zero = graph.constant(place.called("zero"), 0.0)
    one = graph.constant(place.called("one"), 1.0)
    return graph.node("Clip", line, zero, one)


@translate.register
def gelu(layer: GELU, graph: Graph, place: Place) -> str:
    """Gelu in both forms; in float64 composed of arithmetic nodes."""
    if not graph.wide:
        return graph.node("Gelu", place.x, approximate=layer.approximate)
    if layer.approximate == "none":
        return _wide_gelu(graph, place)
    cube = graph.constant(place.called("cube"), CUBE)
    root = graph.constant(place.called("root"), ROOT)
    one = graph.constant(place.called("one"), 1.0)
    half = graph.constant(place.called("half"), 0.5)
    square = graph.node("Mul", place.x, place.x)
    inner = graph.node("Add", graph.node("Mul", square, cube), one)
    inner = graph.node("Mul", graph.node("Mul", inner, place.x), root)
    gate = graph.node("Add", graph.node("Tanh", inner), one)
    return graph.node("Mul", graph.node("Mul", gate, place.x), half)


def _wide_gelu(graph: Graph, place: Place) -> str:
    """Add GELU with the error function of ``dbp.nn.error_function``."""

    def constant(name: str, value: float) -> str:
        return graph.constant(place.called(name), value)

    def polynomial(name: str, coefficients: Sequence[float], x: str) -> str:
        total = constant(f"{name}.0", coefficients[0])
        for number, coefficient in enumerate(coefficients[1:], 1):
            product = graph.node("Mul", total, x)
            total = graph.node("Add", product, constant(f"{name}.{number}", coefficient))
        return total

    zero, half, one = constant("zero", 0.0), constant("half", 0.5), constant("one", 1.0)
    small, largest = constant("small", SMALL), constant("largest", LARGEST)
    scaled = graph.node("Mul", place.x, constant("root", math.sqrt(0.5)))
    size = graph.node("Abs", scaled)
    near = graph.node("Min", size, small)
    square = graph.node("Mul", near, near)
    top = polynomial("small_numerator", SMALL_NUMERATOR, square)
    bottom = polynomial("small_denominator", SMALL_DENOMINATOR, square)
    low = graph.node("Mul", scaled, graph.node("Div", top, bottom))
    far = graph.node("Clip", size, small, largest)
    top = polynomial("numerator", NUMERATOR, far)
    bottom = polynomial("denominator", DENOMINATOR, far)
    power = graph.node("Exp", graph.node("Neg", graph.node("Mul", far, far)))
    rest = graph.node("Mul", power, graph.node("Div", top, bottom))
    high = graph.node("Sub", one, rest)
    sign = graph.node("Less", scaled, zero)
    high = graph.node("Where", sign, graph.node("Neg", high), high)
    erf = graph.node("Where", graph.node("Greater", size, small), high, low)
    gate = graph.node("Mul", graph.node("Add", erf, one), half)
    return graph.node("Mul", place.x, gate)


def _exponential_linear(graph: Graph, place: Place, *, alpha: float, scale: float) -> str:
    """Add scale x where x > 0, else scale alpha (exp(x) - 1)."""
    zero = graph.constant(place.called("floor"), 0.0)
    one = graph.constant(place.called("one"), 1.0)
    fall = graph.constant(place.called("fall"), scale * alpha)
    rise = graph.constant(place.called("rise"), scale)
    low = graph.node("Exp", graph.node("Min", place.x, zero))
    low = graph.node("Mul", graph.node("Sub", low, one), fall)
    return _where_positive(graph, place, graph.node("Mul", place.x, rise), low)


def _where_positive(graph: Graph, place: Place, positive: str, other: str) -> str:
    zero = graph.constant(place.called("zero"), 0.0)
    return graph.node("Where", graph.node("Greater", place.x, zero), positive, other)
