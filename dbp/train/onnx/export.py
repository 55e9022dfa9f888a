"""Convert a trained model to one ONNX model: scaling and layers, without the loss."""

from __future__ import annotations

from typing import Final

import onnx

import dbp.train.onnx.activations
import dbp.train.onnx.layers
import dbp.train.onnx.windows  # noqa: F401 - importing registers the translations
from dbp.data.preprocessing import Scaling
from dbp.errors import InvalidInput
from dbp.nn.layer import within
from dbp.train.model.trained_model import TrainedModel
from dbp.train.onnx.graph import INPUT, Graph
from dbp.train.onnx.translate import Place, translate

# An ONNX file is one protobuf message of less than 2**31 bytes, including the nodes.
MAX_BYTES: Final = 2_000_000_000

# The graph scales its inputs itself; a reader of this key would scale them twice.
_LEFT_OUT: Final = frozenset({"dbp.scaling"})


def onnx_model(saved: TrainedModel) -> onnx.ModelProto:
    """Return an ONNX model that maps unscaled ``input`` to ``output``, like ``predict``.

    ``input`` is (batch, *input_shape), ``output`` (batch, *output_shape), both of the model's
    type, for any batch. Raises InvalidInput for a layer without a translation, or a model that
    is too large for the format.
    """
    size = saved.parameters.vector.nbytes
    if size > MAX_BYTES:
        raise InvalidInput(
            f"{size:,} bytes of parameters; an ONNX file holds at most {MAX_BYTES:,}, so "
            "export npz or safetensors instead"
        )
    model = saved.model
    graph = Graph(model.dtype)
    x, shape = _scaled(saved.scaling, graph), model.input_shape
    for position, layer in enumerate(model.layers):
        own = within(saved.parameters.views, str(position))
        x = translate(layer, graph, Place(str(position), x, shape, own))
        shape = layer.output_shape(shape)
    metadata = {k: v for k, v in saved.metadata.items() if k.startswith("dbp.")}
    kept = {key: text for key, text in metadata.items() if key not in _LEFT_OUT}
    return graph.finish(x, model.input_shape, model.output_shape, kept)


def _scaled(scaling: Scaling, graph: Graph) -> str:
    """Add the scaling (Sub and Div, if any); return the name of the scaled inputs."""
    x = INPUT
    if scaling.mean is not None:
        x = graph.node("Sub", x, graph.constant("scaling.mean", scaling.mean))
    if scaling.kind != "none":
        x = graph.node("Div", x, graph.constant("scaling.scale", scaling.scale))
    return x
