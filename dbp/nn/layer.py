"""The interface of a layer: shapes, parameters, forward and backward.

A layer is a frozen dataclass of options and holds no arrays. Parameters are views into the
model's flat vector, saved activations live in the closure that ``forward`` returns, and
every large array comes from the workspace, which keeps it from step to step: a fresh numpy
array of this size would cost page faults at each step.

Each mini-batch is cut into lanes; a lane's samples in a step are a *lane batch*. Layers treat
every sample independently; those that do not, such as batch normalization, are BatchLayers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.nn.role import Role, role_by_shape
from dbp.nn.row_product import RowProduct
from dbp.nn.row_random import RowRandom

Shape = tuple[int, ...]
Range = tuple[float, float]  # lowest and highest value
Array = npt.NDArray[Any]
Views = Mapping[str, Array]
Backward = Callable[[Array, Views], Array | None]

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
        lanes: The rows of each lane, where one call computes several lanes; else empty.
        joined: Names of the layer's row products that may be computed for all lanes at once.
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
        self.lanes: Sequence[slice] = ()
        self.joined: Collection[str] = ()
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

    def multiply_rows(self, name: str, rows: Array, matrix: Array, out: Array) -> None:
        """Write ``rows @ matrix`` to ``out``, with the bits of one product for each lane.

        ``name`` is the product's name in ``Layer.row_products``. Rows in another order of
        memory than the one that was compared are computed lane by lane.
        """
        if not self.lanes or (name in self.joined and rows.flags.c_contiguous):
            np.matmul(rows, matrix, out=out)
            return
        for lane in self.lanes:
            np.matmul(rows[lane], matrix, out=out[lane])

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

    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct] | None:
        """Declare that one call may compute the rows of several lanes; None: one lane a call.

        Then each row of y and of dx has the same bits as in a batch of its lane alone. Only
        products of all rows with a matrix may depend on the number of rows: return them by
        name, and compute them with ``workspace.multiply_rows``. A layer with parameters must
        also be a JointLayer, which writes the gradients of each lane.
        """
        return None

    @property
    def arithmetic(self) -> tuple[str, ...]:
        """Names of ways to compute that give other last bits than earlier versions.

        Checkpoints record them, so that a resume of an earlier one says so.
        """
        return ()

    def kept_bytes(self, input_shape: Shape, lanes: Sequence[int], itemsize: int) -> int:
        """Return the bytes that the backward pass needs of lanes of so many rows.

        They are those besides x and y; the estimate of a run's memory counts them.
        """
        return 0

    @property
    def has_sync_points(self) -> bool:
        """Whether lanes must run in lockstep, to exchange statistics (see BatchLayer)."""
        return False

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
        samples into each view of ``gradients`` and returns dx. It may overwrite dy. Layers
        get C-contiguous arrays; where y or dx is not, the model copies it.
        """


def to_overwrite(dy: Array) -> Array:
    """Return dy as a layer gets it: C-contiguous and writable; a copy if it is not.

    A sum's last bits depend on the strides, and the strides of other layers' results on the
    number of rows; so no layer gets foreign strides, neither in y nor in dy.
    """
    return dy if dy.flags.c_contiguous and dy.flags.writeable else dy.copy()


def within(views: Views, name: str) -> Views:
    """Return the views of the inner layer ``name``, without the prefix ``name.``."""
    return {own: views[f"{name}.{own}"] for own in names_within(views, name)}


def names_within(names: Iterable[str], name: str) -> list[str]:
    """Return the names of the inner layer ``name``, without the prefix ``name.``."""
    prefix = f"{name}."
    return [key[len(prefix) :] for key in names if key.startswith(prefix)]
