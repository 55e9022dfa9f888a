"""Check that an optimizer keeps the contract of ``Optimizer``."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np

from dbp.optim.layerwise import LayerwiseOptimizer
from dbp.optim.optimizer import Optimizer, Vector, zero_slots
from dbp.random import keyed_generator
from dbp.testing.judgement import require, require_same


def check_optimizer(optimizer: Optimizer) -> None:
    """Check that an optimizer solves a small quadratic, works on slices, allocates nothing.

    With the optimizer's own learning rate, 2000 steps must reduce the quadratic (curvatures
    from 0.5 to 2) to a hundredth. Raises AssertionError.

    >>> from dbp.optim.adam import Adam
    >>> check_optimizer(Adam())
    """
    _check_descent(optimizer)
    _check_slices(optimizer)
    size = 100_000
    rng = keyed_generator(0, "check_optimizer", "allocation")
    vectors = [rng.standard_normal(size) for _ in range(4)]
    slots = zero_slots(optimizer, size, np.float64)
    _update(optimizer, vectors, slots, slice(0, size), step=1)
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        _update(optimizer, vectors, slots, slice(0, size), step=2)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    limit = vectors[0].nbytes // 8
    require(peak < limit, f"update must allocate no vector, but took {peak} bytes")


def _check_descent(optimizer: Optimizer) -> None:
    size, steps = 16, 2000
    curvature = np.linspace(0.5, 2.0, size)
    target = keyed_generator(0, "check_optimizer").standard_normal(size)
    p = np.zeros(size)
    slots = zero_slots(optimizer, size, np.float64)
    for step in range(1, steps + 1):
        rate = optimizer.learning_rate.value(step, steps)
        vectors = [p, curvature * (p - target), np.empty(size), np.empty(size)]
        whole = slice(0, size)
        _update(optimizer, vectors, slots, whole, step=step, rate=rate, decay=0.0)
    start, end = curvature @ target**2, curvature @ (p - target) ** 2
    require(
        bool(end <= 0.01 * start),
        f"{steps} steps must bring a quadratic from {start:.3g} below 1 %, got {end:.3g}",
    )


def _check_slices(optimizer: Optimizer) -> None:
    size, cuts = 1000, (0, 0, 1, 8, 307, 1000)
    rng = keyed_generator(0, "check_optimizer", "slices")
    whole = [rng.standard_normal(size) for _ in range(4)]
    parts = [whole[0].copy(), *(np.full(size, np.nan) for _ in range(3))]
    whole_slots = zero_slots(optimizer, size, np.float64)
    part_slots = zero_slots(optimizer, size, np.float64)
    for step in range(1, 6):
        whole[1][:] = rng.standard_normal(size)
        parts[1][:] = whole[1]
        _update(optimizer, whole, whole_slots, slice(0, size), step=step)
        for start, stop in itertools.pairwise(cuts):
            _update(optimizer, parts, part_slots, slice(start, stop), step=step)
    require_same(parts[0], whole[0], "the parameters, updated slice by slice,")
    for name in optimizer.slot_names():
        require_same(
            part_slots[name], whole_slots[name], f"slot {name}, updated slice by slice,"
        )


def _update(
    optimizer: Optimizer,
    vectors: list[Vector],
    slots: dict[str, Vector],
    part: slice,
    *,
    step: int,
    rate: float = 0.01,
    decay: float = 0.1,
) -> None:
    """Update a slice of (parameters, gradient, scratch, scratch) once."""
    parameters, gradient, first, second = (vector[part] for vector in vectors)
    own = {name: slot[part] for name, slot in slots.items()}
    if isinstance(optimizer, LayerwiseOptimizer):
        optimizer.direct(
            parameters, gradient, own, (first, second), step=step, weight_decay=decay
        )
    optimizer.update(
        parameters,
        gradient,
        own,
        (first, second),
        step=step,
        learning_rate=rate,
        weight_decay=decay,
    )
