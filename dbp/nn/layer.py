"""The interface of a layer: shapes, parameters, forward and backward.

A layer is a frozen dataclass of options and holds no arrays. Parameters are views into the
model's flat vector, saved activations live in the closure that ``forward`` returns, and
every large array comes from the workspace, which keeps it from step to step: a fresh numpy
array of this size would cost page faults at each step.

Each mini-batch is cut into lanes; a lane's samples in a step are a *lane batch*. Most layers
treat every sample independently. A BatchLayer, such as batch normalization, needs statistics
of the whole mini-batch: its lanes exchange them at *sync points*.
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

# A computation of one lane batch. At every sync point it yields the lane's statistics, 1-D
# float64, and is sent those of all lanes, shape (lanes, size), in one fixed order.
LaneGenerator = Generator[Array, Array, T]
LaneBackward = Callable[[Array, Views], LaneGenerator[Array | None]]

UNLIMITED: Final[Range] = (-math.inf, math.inf)


class Workspace:
    """Arrays of one layer that live as long as the model, and the settings of the pass.

    Attributes:
        training: False in evaluation.
        needs_input_gradient: False up to the first layer with parameters; backward may then
            return None.
        random: Random numbers for this step's rows (dropout).
        new_state: Running statistics to update in place; None where another lane does it.
        frozen: Names of running statistics that training leaves unchanged; they are then used
            as in evaluation.
        place: The layer's position, unique in the model.
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
        self.place: str = place
        self.frozen: frozenset[str] = frozenset(frozen)
        self.training = False
        self.random = RowRandom()
        self.new_state: Views | None = None
        self._flat: dict[str, Array] = {}
        self._inner: dict[str, Workspace] = {}

    def inner(self, name: str, *, needs_input_gradient: bool = True) -> Workspace:
        """Return the workspace of a layer inside this one, with the settings of this pass."""
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
        """Set the running statistics that the layer updates; None if all of them are frozen."""
        frozen = new_state is None or new_state.keys() <= self.frozen
        self.new_state = None if frozen else new_state

    def array(self, name: str, shape: Shape, dtype: npt.DTypeLike | None = None) -> Array:
        """Return a C-contiguous array with undefined content, the same memory at each call.

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
    """A layer of the model; samples are rows: x has shape ``(batch, *input_shape)``.

    Shapes of methods are those of one sample, without the batch.
    """

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample; raise ValueError if the input does not fit."""

    @abstractmethod
    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return names and shapes of the parameters, as in PyTorch (``weight``: (out, in))."""

    def parameter_roles(self, input_shape: Shape) -> dict[str, Role]:
        """Return the role of each parameter: "weight", "bias", or "scale" (normalization).

        Weight decay and the ratio of LARS and LAMB apply to weights only; biases have their
        own learning-rate factor. By default ``bias`` is a bias, and other vectors are scales.
        """
        shapes = self.parameter_shapes(input_shape)
        return {name: role_by_shape(name, shape) for name, shape in shapes.items()}

    def output_range(self, input_range: Range) -> Range:
        """Return bounds of the outputs in evaluation that hold for all parameters.

        ``input_range`` bounds the inputs. By default the outputs are unlimited.
        """
        return UNLIMITED

    def ids(self) -> int:
        """Return n if the inputs must be whole numbers from 0 to n - 1; 0 for any numbers."""
        return 0

    def state_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return names and shapes of the state without gradients (running statistics).

        ``initialize`` and ``forward`` get the state among the parameters; only
        ``workspace.new_state`` may be changed.
        """
        return {}

    def values_per_channel(self, input_shape: Shape) -> int:
        """Return how many values one sample adds to each mini-batch statistic.

        0: the layer has no mini-batch statistics, or needs no minimum number of values.
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
    """A layer that needs statistics of the whole mini-batch, such as batch normalization."""

    @abstractmethod
    def forward_lane(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> LaneGenerator[tuple[Array, LaneBackward]]:
        """Run ``forward`` on one lane batch; yield at sync points, as does the backward pass.

        Every lane batch, even an empty one, has the same sync points. Evaluation has none.
        """

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """Run the layer on the whole mini-batch ``x``, as a single lane batch."""
        y, backward_lane = run_single(self.forward_lane(parameters, x, workspace))

        def backward(dy: Array, gradients: Views) -> Array | None:
            return run_single(backward_lane(dy, gradients))

        return y, backward


def forward_of(
    layer: Layer, parameters: Views, x: Array, workspace: Workspace
) -> LaneGenerator[tuple[Array, Backward | LaneBackward]]:
    """Run a layer's forward pass on one lane batch, with sync points if it has any."""
    if isinstance(layer, BatchLayer):
        return (yield from layer.forward_lane(parameters, x, workspace))
    return layer.forward(parameters, x, workspace)


def backward_of(
    backward: Backward | LaneBackward, dy: Array, gradients: Views
) -> LaneGenerator[Array | None]:
    """Run a layer's backward pass on one lane batch, with sync points if it has any."""
    result = backward(dy, gradients)
    return (yield from result) if isinstance(result, Generator) else result


def run_in_lockstep(
    lanes: Sequence[LaneGenerator[T]], gather: Callable[[Array], Array] = np.copy
) -> list[T]:
    """Run the lanes' generators in lockstep; all-gather their statistics at every yield.

    Args:
        lanes: The generators of this rank's lanes.
        gather: Returns the statistics of the lanes of all ranks, (all lanes, size), from those
            of this rank, (lanes, size). If it is collective, so is this function.

    Returns the generators' results, in the order of ``lanes``.
    """
    results: list[T] = []
    statistics = []
    for lane in lanes:
        try:
            statistics.append(next(lane))
        except StopIteration as end:
            results.append(end.value)
    while statistics:
        gathered = gather(np.stack(statistics))
        statistics = []
        for lane in lanes:
            try:
                statistics.append(lane.send(gathered))
            except StopIteration as end:
                results.append(end.value)
    return results


def run_single(lane: LaneGenerator[T]) -> T:
    """Run one generator whose lane batch is the whole mini-batch; return its result."""
    return run_in_lockstep([lane])[0]


def within(views: Views, name: str) -> Views:
    """Return the views of the inner layer ``name``, without the prefix ``name.``."""
    return {own: views[f"{name}.{own}"] for own in names_within(views, name)}


def names_within(names: Iterable[str], name: str) -> list[str]:
    """Return the names of the inner layer ``name``, without the prefix ``name.``."""
    prefix = f"{name}."
    return [key[len(prefix) :] for key in names if key.startswith(prefix)]
