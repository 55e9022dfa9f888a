"""From a layer to ONNX nodes: the contract. No translation lives here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from dbp.errors import InvalidInput
from dbp.nn.layer import Layer, Shape, Views
from dbp.registry import kind_of
from dbp.train.onnx.graph import Graph


@dataclass(frozen=True)
class Place:
    """Where a layer stands: its position (``2``, ``2.0``), what goes in, its parameters."""

    name: str
    x: str
    input_shape: Shape
    parameters: Views

    def called(self, name: str) -> str:
        """The full name of something of this layer: ``2.weight``."""
        return f"{self.name}.{name}"

    def own(self, graph: Graph, *names: str) -> list[str]:
        """The parameters as constants under their full names, as far as the layer has them."""
        return [
            graph.constant(self.called(name), self.parameters[name])
            for name in names
            if name in self.parameters
        ]


@singledispatch
def translate(layer: Layer, graph: Graph, place: Place) -> str:
    """Add a layer's nodes to the graph; returns the name of its output.

    Computes what the layer's forward pass does in evaluation. Raises InvalidInput for a layer
    without a translation; a plug-in adds its own with ``translate.register``.
    """
    try:
        kind = kind_of("layers", layer)
    except LookupError:
        kind = type(layer).__name__
    raise InvalidInput(
        f"layers[{place.name.replace('.', '][')}]: {kind!r} has no translation to ONNX; the "
        "formats npz and safetensors hold its parameters"
    )
