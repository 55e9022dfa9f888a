"""The samples of one pass through the model: those of a lane, or of several lanes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dbp.nn.joint_layer import JointGradients
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters
from dbp.nn.row_random import RowRandom


@dataclass(frozen=True)
class LaneBatch:
    """The samples that a lane computes in one step, and the settings of the pass.

    Attributes:
        x: Inputs, (rows, *input_shape).
        target: Targets, (rows, ...).
        weight: Weights of the samples, (rows,); None means all ones.
        number: Index of the buffers to use; differs for lane batches under way at once.
        random: Random numbers for these rows (dropout).
        new_state: Running statistics to update in place; given to one lane batch only.
        lanes: The rows of each lane, where the batch joins several; otherwise empty.
        joined: For each layer, the row products to compute for all lanes at once.
    """

    x: Array
    target: Array
    weight: Array | None = None
    number: int = 0
    random: RowRandom = field(default_factory=RowRandom)
    new_state: Parameters | None = None
    lanes: Sequence[slice] = ()
    joined: Sequence[Collection[str]] = ()


class ModelBackward(Protocol):
    """The backward pass of a lane batch, through all layers."""

    def __call__(
        self,
        dy: Array | None,
        gradients: Parameters | JointGradients,
        on_ready: Callable[[int], None] | None = None,
    ) -> None:
        """Write the gradient of the *sum* over the samples into ``gradients``.

        ``gradients`` are JointGradients where the batch joins several lanes. ``on_ready`` is
        called with the first element from which the gradients are final.
        """
