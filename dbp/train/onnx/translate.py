"""The interface that translates a layer to ONNX nodes; layers register with it by type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from dbp.errors import InvalidInput
from dbp.nn.layer import Layer, Shape, Views
from dbp.registry import kind_of
from dbp.train.onnx.graph import Graph


@dataclass(frozen=True)
class Place:
    """A layer's position (``2``, ``2.0``), the name of its input, and its parameters."""

    name: str
    x: str
    input_shape: Shape
    parameters: Views

    def called(self, name: str) -> str:
        """Return the full name of a value of this layer, such as ``2.weight``."""
        return f"{self.name}.{name}"

    def own(self, graph: Graph, *names: str) -> list[str]:
        """Add those of these parameters that the layer has as constants; return their names."""
        return [
            graph.constant(self.called(name), self.parameters[name])
            for name in names
            if name in self.parameters
        ]


@singledispatch
def translate(layer: Layer, graph: Graph, place: Place) -> str:
    """Add a layer's nodes to the graph; return the name of its output.

    The nodes compute the layer's forward pass in evaluation. Raises InvalidInput for a layer
    without a translation; a plug-in registers its own with ``translate.register``.
    """
    try:
        kind = kind_of("layers", layer)
    except LookupError:
        kind = type(layer).__name__
    raise InvalidInput(
        f"layers[{place.name.replace('.', '][')}]: {kind!r} has no translation to ONNX; the "
        "formats npz and safetensors contain its parameters"
    )
