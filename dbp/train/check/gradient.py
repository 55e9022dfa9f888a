"""Compare the gradient of a job's model with central differences, in float64.

The gradient is the one that three ranks would apply: forward, loss and backward of uneven
shares, the real exchange, one division. The differences are of the mean loss of the same
samples, computed as one lane batch by one rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from dbp.data.sampler import order
from dbp.errors import InvalidData
from dbp.nn.lane_batch import LaneBatch
from dbp.nn.layer import Array
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.row_random import RowRandom
from dbp.optim.schedule import Constant
from dbp.optim.sgd import SGD
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.quantities import count_text
from dbp.random import keyed_generator
from dbp.train.build import Setup
from dbp.train.check.finding import Finding, OnProgress, ignore_progress, shape_words
from dbp.train.report.sink import Command
from dbp.train.rows import RowReader
from dbp.train.step import Step

RANKS: Final = 3
SAMPLES: Final = 7  # not a multiple of the ranks
PROBES: Final = 600  # shared by all tensors
MOST, FEWEST = 24, 4  # probes of one tensor
STEPS: Final = (1e-5, 1e-6, 1e-7)  # a kink within the first is seldom within the last
TOLERANCE: Final = 1e-5  # of a tensor's largest slope
ROUNDING: Final = 1e-8  # of a loss of size 1, divided by the smallest step
DISTURBANCE: Final = 0.1

Direction = tuple[slice | int, Array | float]  # position in the vector, and the change
Losses = Callable[[Direction, float], float]  # mean loss after a step of this length


@dataclass(frozen=True)
class Verdict:
    """One derivative compared with its central difference; whether it lies at a kink."""

    slope: float
    numeric: float
    at_kink: bool
    right: bool


def check_gradient(
    setup: Setup, *, on_progress: OnProgress = ignore_progress
) -> Iterator[Finding]:
    """Compare the gradient of the first samples with central differences, tensor by tensor.

    Parameters are initialized as in training, then moved a little, so that no bias is exactly
    0. In large tensors some elements are compared (half of them with the largest slopes), and
    the slope along one random direction through all elements. At a kink (as in relu) the
    one-sided slopes differ, and the gradient must lie between them.
    """
    on_progress("the gradient through several ranks", 0, 1)
    double = _in_double(setup)
    parameters = _disturbed(double)
    found = run_threads(
        _rank_count(double), lambda rank: _gradient_of_step(rank, double, parameters)
    )
    failure, loss, gradient = found[0]
    if failure:
        yield Finding("gradient", "failed", f"the first step: {failure}")
        return
    losses = _losses(double, parameters)
    yield from _check_loss(loss, losses, len(found))
    if not any(bits.tobytes() != gradient.tobytes() for _, _, bits in found):
        message = f"{count_text(len(found), 'rank')} hold the same bits after the exchange"
        yield Finding("gradient", "ok", message)
    else:
        yield Finding("gradient", "failed", "ranks hold other parameters after the exchange")
        return
    if not gradient.any():
        yield Finding(
            "gradient",
            "warning",
            "every element of the gradient is 0, so that training changes nothing: does the "
            "loss depend on the outputs, and do the outputs depend on the parameters?",
        )
    gradients = Parameters(double.model.parameter_shapes, gradient)
    budget = min(MOST, max(FEWEST, PROBES // len(gradients.shapes)))
    largest = max(1.0, abs(loss))
    for number, name in enumerate(gradients.shapes):
        on_progress(f"differences of {name}", number, len(gradients.shapes))
        yield _check_tensor(name, gradients, losses, budget, ROUNDING * largest)


def _check_loss(loss: float, losses: Losses, ranks: int) -> Iterator[Finding]:
    """Compare the loss summed over ranks with that of one lane batch, computed twice."""
    here = (slice(0, 0), 0.0)
    whole, again = losses(here, 0.0), losses(here, 0.0)
    if whole != again:
        yield Finding(
            "gradient",
            "failed",
            f"the same samples give the loss {whole!r}, then {again!r}: a layer must compute "
            "from its arguments only, and draw from workspace.random",
        )
    close = math.isclose(loss, whole, rel_tol=1e-9, abs_tol=1e-12)
    yield Finding(
        "gradient",
        "ok" if close else "failed",
        f"mean loss of {SAMPLES} samples: {loss:.12g} summed over {count_text(ranks, 'rank')}, "
        f"{whole:.12g} on one rank",
    )


def _check_tensor(
    name: str, gradients: Parameters, losses: Losses, budget: int, rounding: float
) -> Finding:
    own, part = gradients[name].reshape(-1), gradients.slices[name]
    tolerance = TOLERANCE * float(np.abs(own).max(initial=0.0)) + rounding
    places = _places(name, own, budget)
    probes = [(_element(part.start + place), float(own[place])) for place in places]
    if len(places) < own.size:
        rng = keyed_generator(0, "check_gradient", "direction", name)
        direction = rng.choice([-1.0, 1.0], own.size) / math.sqrt(own.size)
        probes.append(((part, direction), float(own @ direction)))
    verdicts = [judge(slope, losses, where, tolerance) for where, slope in probes]
    what = (
        f"{name} ({shape_words(gradients.shapes[name])}): {len(places):,} of "
        f"{count_text(own.size, 'element')}"
    )
    for place, verdict in zip([*places, None], verdicts, strict=False):
        if not verdict.right:
            at = (
                "a random direction"
                if place is None
                else f"element {_index(name, place, gradients)}"
            )
            return Finding(
                "gradient",
                "failed",
                f"{what} compared; at {at} the gradient is {verdict.slope:.8g}, "
                f"the central difference {verdict.numeric:.8g}",
            )
    kinks = sum(verdict.at_kink for verdict in verdicts)
    errors = [abs(v.slope - v.numeric) for v in verdicts if not v.at_kink]
    if 2 * kinks > len(verdicts):
        return Finding("gradient", "warning", f"{what} compared, but {kinks} lie at kinks")
    message = what + (" and a direction" if len(places) < own.size else "")
    message += f" agree, within {max(errors):.1e} of slopes up to {np.abs(own).max():.2g}"
    return Finding("gradient", "ok", message + (f"; {kinks} at kinks" if kinks else ""))


def judge(slope: float, losses: Losses, where: Direction, tolerance: float) -> Verdict:
    """Compare a slope with differences of decreasing steps; detect a kink."""
    nearest, left, right = math.inf, 0.0, 0.0
    for step in STEPS:
        above, below = losses(where, step), losses(where, -step)
        numeric = (above - below) / (2 * step)
        if abs(numeric - slope) < abs(nearest - slope):
            nearest = numeric
        if abs(numeric - slope) <= tolerance:
            return Verdict(slope, numeric, at_kink=False, right=True)
        here = losses(where, 0.0)
        left, right = (here - below) / step, (above - here) / step
    low, high = min(left, right), max(left, right)
    between = low - tolerance <= slope <= high + tolerance
    at_kink = between and high - low > 2 * tolerance
    return Verdict(slope, nearest, at_kink=at_kink, right=at_kink)


def _places(name: str, own: Array, budget: int) -> list[int]:
    """Return the elements to compare: all, or half the steepest and half random ones."""
    if own.size <= budget:
        return list(range(own.size))
    steepest = np.argpartition(-np.abs(own), budget // 2)[: budget // 2]
    drawn = keyed_generator(0, "check_gradient", name).choice(own.size, budget, replace=False)
    chosen = list(dict.fromkeys([*steepest.tolist(), *drawn.tolist()]))
    return sorted(chosen[:budget])


def _element(place: int) -> Direction:
    return place, 1.0


def _index(name: str, place: int, gradients: Parameters) -> str:
    index = np.unravel_index(place, gradients.shapes[name])
    return f"element [{', '.join(map(str, index))}]"


def _losses(setup: Setup, start: Parameters) -> Losses:
    """Return a function that computes the mean loss of the samples on one rank."""
    model = _copy(setup.model)
    x, target, weight = _read(setup, model, _chosen(setup))
    parameters = start.like(start.vector.copy())
    state = Parameters.zeros(model.state_shapes, model.dtype)
    total = model.weight_sum(target, weight)
    random = RowRandom(setup.resolved.spec.seed, 1, 0)

    def mean_loss(where: Direction, length: float) -> float:
        place, direction = where
        kept = np.copy(parameters.vector[place])
        parameters.vector[place] = kept + length * direction
        state.vector[:] = parameters.vector[len(parameters) - len(state) :]
        batch = LaneBatch(x.copy(), target, weight, random=random, new_state=state)
        with np.errstate(all="ignore"):
            prediction, _ = model.forward_training(parameters, batch)
            loss, _, _ = model.loss_gradient(prediction, batch)
        parameters.vector[place] = kept
        return loss / total

    return mean_loss


def _gradient_of_step(
    communicator: Communicator, setup: Setup, start: Parameters
) -> tuple[str, float, Array]:
    """Run one step with rate 1 on a rank; return its failure, mean loss and gradient."""
    own = dataclasses.replace(setup, model=_copy(setup.model))
    parameters = start.like(start.vector.copy())
    size = sum(math.prod(shape) for shape in own.model.parameter_shapes.values())
    with np.errstate(all="ignore"):
        result = Step(own, parameters, communicator).run(1, _chosen(setup), Command.NONE)
    change = start.vector[:size] - parameters.vector[:size]
    return result.failure, result.loss_sum / max(result.weight, 1e-300), change


def _in_double(setup: Setup) -> Setup:
    """Return the job in float64, with SGD at rate 1, so that a step subtracts the gradient."""
    train = dataclasses.replace(
        setup.resolved.spec.train,
        dtype="float64",
        batch_size=min(SAMPLES, len(setup.train)),
        clip_norm=None,
        clip_value=None,
        accumulate=1,
    )
    resolved = dataclasses.replace(
        setup.resolved,
        spec=dataclasses.replace(setup.resolved.spec, train=train),
        optimizer=SGD(learning_rate=Constant(rate=1.0)),
    )
    return dataclasses.replace(setup, resolved=resolved, model=_copy(setup.model, "float64"))


def _copy(model: Model, dtype: str | None = None) -> Model:
    """Return a model of the same layers with its own buffers."""
    return Model(
        model.layers,
        model.input_shape,
        dtype=model.dtype if dtype is None else dtype,
        loss=model.loss,
        metrics=model.metrics,
        freezes=model.freezes,
    )


def _disturbed(setup: Setup) -> Parameters:
    """Return initial parameters, each moved by about a tenth of its tensor's deviation."""
    model, seed = setup.model, setup.resolved.spec.seed
    parameters = Parameters.zeros(model.tensor_shapes, model.dtype)
    model.initialize(parameters, seed)
    rng = keyed_generator(seed, "check_gradient", "disturbance")
    for name in model.parameter_shapes:
        view = parameters[name]
        spread = float(view.std()) or 1.0
        view += DISTURBANCE * spread * rng.standard_normal(view.shape)
    return parameters


def _rank_count(setup: Setup) -> int:
    train = setup.resolved.spec.train
    return min(RANKS, train.lanes) if train.numerics == "exact" else RANKS


def _chosen(setup: Setup) -> Array:
    """Return the first samples of the first epoch whose weights are not all 0."""
    count = len(setup.train)
    indices = order(setup.resolved.spec.seed, 1, count)
    for start in range(0, count, SAMPLES):
        chosen = indices.take(start, min(start + SAMPLES, count))
        _, target, weight = _read(setup, setup.model, chosen)
        if setup.model.weight_sum(target, weight) > 0:
            return chosen
    raise InvalidData("data.train: the weights of all samples are 0 under this loss")


def _read(setup: Setup, model: Model, chosen: Array) -> tuple[Array, Array, Array | None]:
    """Read samples as the model gets them."""
    reader = RowReader(setup.train, model, setup.scaling, capacity=len(chosen))
    x, target = reader.read(chosen)
    return x, target, reader.weights(chosen)
