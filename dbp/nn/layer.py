"""The contract of a layer: shapes, parameters, forward and backward. No layer lives here.

A layer is a frozen dataclass of options and holds no arrays. Parameters are views into the
model's flat vector, saved activations live in the closure that ``forward`` returns, and
every large array comes from the workspace, which keeps it from step to step: a fresh numpy
array of this size would cost page faults at each step.

A mini-batch is computed in pieces (shards, lanes). Most layers treat every sample alone and
never notice; a BatchLayer looks at all samples, and its pieces meet on the way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from dbp.nn.role import Role, role_by_shape
from dbp.nn.row_random import RowRandom

T = TypeVar("T")
Shape = tuple[int, ...]
Range = tuple[float, float]  # lowest and highest value
Array = npt.NDArray[Any]
Views = Mapping[str, Array]
Backward = Callable[[Array, Views], Array | None]

# A computation that stops where pieces of a mini-batch meet: it yields its own statistics,
# 1-D float64, and is sent those of all pieces, shape (pieces, size), in one fixed order.
Meeting = Generator[Array, Array, T]
MeetingBackward = Callable[[Array, Views], Meeting[Array | None]]

UNLIMITED: Final[Range] = (-math.inf, math.inf)


class Workspace:
    """Arrays of one layer that live as long as the model.

    ``training`` is False in evaluation; ``needs_input_gradient`` is False for the first
    layer, whose backward may then return None; ``random`` draws for this step's rows
    (dropout); ``new_state`` are the running statistics to update in place, None where that is
    another piece's to do; ``frozen`` are the names of running statistics that stay as they
    are, and are then used as in evaluation; ``place`` is the layer's position, unique in the
    model.
    """

    def __init__(
        self,
        dtype: npt.DTypeLike,
        *,
        needs_input_gradient: bool = True,
        place: str = "0",
        frozen: Collection[str] = (),
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.needs_input_gradient = needs_input_gradient
        self.place = place
        self.frozen = frozenset(frozen)
        self.training = False
        self.random = RowRandom()
        self.new_state: Views | None = None
        self._flat: dict[str, Array] = {}
        self._inner: dict[str, Workspace] = {}

    def inner(self, name: str, *, needs_input_gradient: bool = True) -> Workspace:
        """The workspace of a layer inside this one, for the same pass."""
        inner = self._inner.get(name)
        if inner is None:
            inner = Workspace(
                self.dtype,
                needs_input_gradient=needs_input_gradient,
                place=f"{self.place}.{name}",
                frozen=names_within(self.frozen, name),
            )
            self._inner[name] = inner
        inner.training, inner.random = self.training, self.random
        inner.new_state = None
        if self.new_state is not None:
            inner.update_state(within(self.new_state, name))
        return inner

    def update_state(self, new_state: Views | None) -> None:
        """Let the layer update these running statistics, but for layers that are frozen."""
        frozen = new_state is None or new_state.keys() <= self.frozen
        self.new_state = None if frozen else new_state

    def array(self, name: str, shape: Shape, dtype: npt.DTypeLike | None = None) -> Array:
        """A C-contiguous array of this shape; the same memory at each call, content undefined.

        A smaller shape (the last, short mini-batch) reuses the front of the same memory.
        """
        size = math.prod(shape)
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        flat = self._flat.get(name)
        if flat is None or flat.size < size or flat.dtype != wanted:
            flat = np.empty(size, wanted)
            self._flat[name] = flat
        return flat[:size].reshape(shape)


class Layer(ABC):
    """One step of the model; samples are rows: x has shape ``(batch, *input_shape)``."""

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one output sample; raises ValueError where the input does not fit."""

    @abstractmethod
    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Names and shapes of the parameters, as in PyTorch (``weight``: (out, in))."""

    def parameter_roles(self, input_shape: Shape) -> dict[str, Role]:
        """What each parameter is: "weight", "bias", or "scale" (of a normalization).

        Weights decay and have LARS and LAMB's ratio; biases and scales do not, and biases have
        a learning-rate factor of their own. Unless the layer says otherwise, ``bias`` is a
        bias, and other vectors are scales.
        """
        shapes = self.parameter_shapes(input_shape)
        return {name: role_by_shape(name, shape) for name, shape in shapes.items()}

    def output_range(self, input_range: Range) -> Range:
        """Bounds of the outputs in evaluation, whatever the parameters are.

        ``input_range`` bounds the inputs. Unlimited unless the layer says otherwise.
        """
        return UNLIMITED

    def ids(self) -> int:
        """How many whole numbers, from 0, the inputs may be; 0: they may be any numbers."""
        return 0

    def state_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Names and shapes of what training keeps beside the parameters, without a gradient.

        Running statistics, for instance. They stand among the parameters in ``initialize``
        and ``forward`` and change through ``workspace.new_state`` alone.
        """
        return {}

    def values_per_channel(self, input_shape: Shape) -> int:
        """How many values a sample adds to each of the layer's mini-batch statistics.

        0: the layer has none, or needs no least number.
        """
        return 0

    @abstractmethod
    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        """Fill the parameters in place; every draw comes from ``rng``."""

    @abstractmethod
    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """Return y, shape ``(batch, *output_shape)``, and the backward closure.

        ``backward(dy, gradients)`` writes (does not add) the gradient of the *sum* over
        samples into each view of ``gradients`` and returns dx. It may overwrite dy.
        """


class BatchLayer(Layer, ABC):
    """A layer that may look at the whole mini-batch, whatever pieces it is computed in."""

    @abstractmethod
    def forward_meeting(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> Meeting[tuple[Array, MeetingBackward]]:
        """As ``forward``, for one piece of a mini-batch; backward stops at meetings, too.

        Every piece, an empty one too, comes to the same meetings. In evaluation there are
        none.
        """

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """Run the layer on the whole mini-batch ``x``, as the only lane batch."""
        y, backward_meeting = alone(self.forward_meeting(parameters, x, workspace))

        def backward(dy: Array, gradients: Views) -> Array | None:
            return alone(backward_meeting(dy, gradients))

        return y, backward


def forward_of(
    layer: Layer, parameters: Views, x: Array, workspace: Workspace
) -> Meeting[tuple[Array, Backward | MeetingBackward]]:
    """A layer's forward pass for one piece, with meetings or without."""
    if isinstance(layer, BatchLayer):
        return (yield from layer.forward_meeting(parameters, x, workspace))
    return layer.forward(parameters, x, workspace)


def backward_of(
    backward: Backward | MeetingBackward, dy: Array, gradients: Views
) -> Meeting[Array | None]:
    """A layer's backward pass for one piece, with meetings or without."""
    result = backward(dy, gradients)
    return (yield from result) if isinstance(result, Generator) else result


def together(
    meetings: Sequence[Meeting[T]], gather: Callable[[Array], Array] = np.copy
) -> list[T]:
    """The results of several pieces' computations, brought to every meeting together.

    ``gather`` turns their statistics, (pieces here, size), into those of all pieces
    everywhere. A collective call, where it is one.
    """
    results: list[T] = []
    statistics = []
    for meeting in meetings:
        try:
            statistics.append(next(meeting))
        except StopIteration as end:
            results.append(end.value)
    while statistics:
        met = gather(np.stack(statistics))
        statistics = []
        for meeting in meetings:
            try:
                statistics.append(meeting.send(met))
            except StopIteration as end:
                results.append(end.value)
    return results


def alone(meeting: Meeting[T]) -> T:
    """The result of a computation whose piece is the whole mini-batch."""
    return together([meeting])[0]


def within(views: Views, name: str) -> Views:
    """The views of the layer called ``name`` inside another, by its own names."""
    return {own: views[f"{name}.{own}"] for own in names_within(views, name)}


def names_within(names: Iterable[str], name: str) -> list[str]:
    """The names that begin with that of a layer inside another, without it."""
    prefix = f"{name}."
    return [key[len(prefix) :] for key in names if key.startswith(prefix)]
