"""Check the gradients that layers and losses hand on in a backward pass."""

from __future__ import annotations

from collections.abc import Sequence

from dbp.nn.layer import Array, Layer, Shape, to_overwrite
from dbp.nn.loss import Loss


def checked_gradient(
    gradient: Array | None, shape: Shape, layers: Sequence[Layer], position: int, loss: Loss
) -> Array:
    """Return the gradient of the outputs of ``layers[position]``, of which each has ``shape``.

    The result is C-contiguous, and the layer may overwrite it. Raises ValueError naming the
    next layer, or the loss, if that has returned no gradient or one of another shape.
    """
    if gradient is not None and gradient.shape[1:] == shape:
        return to_overwrite(gradient)
    if position + 1 < len(layers):
        source = f"layers[{position + 1}] ({type(layers[position + 1]).__name__})"
        text = "backward must return the gradient of its inputs"
    else:
        source, text = f"loss ({type(loss).__name__})", "evaluate must return the gradient"
    got = "None" if gradient is None else f"shape {gradient.shape}"
    samples = ", ".join(["samples", *map(str, shape)])
    raise ValueError(f"model.{source}: {text}, of shape ({samples}), got {got}")
