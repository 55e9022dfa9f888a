"""Adam's rule in one pass, compiled, where its bits are those of numpy's calls."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from dbp.optim.adam_rule import AdamRates, adam_rule
from dbp.optim.compiled import NotCompiledError, load
from dbp.optim.optimizer import Vector

logger = logging.getLogger("dbp")

SOURCE: Final = Path(__file__).with_name("adam.c")
LEAST: Final = 32_768  # elements for which a kernel is worth its compilation
_COMPARED: Final = 1_003  # elements: whole vector instructions, and a rest
_STEPS: Final = 3


@final
class AdamKernel:
    """The compiled rule for vectors of one type."""

    def __init__(self, function: Callable[..., None], dtype: np.dtype[Any]) -> None:
        """``function`` is one of ``adam.c``; ``dtype`` is its type."""
        self._function = function
        self._dtype = dtype

    def takes(self, vectors: tuple[Vector, ...]) -> bool:
        """Whether these are contiguous vectors of its type and of one length, to write to."""
        size = vectors[0].size
        return all(
            vector.dtype == self._dtype and vector.flags.carray and vector.size == size
            for vector in vectors
        )

    def run(self, vectors: tuple[Vector, ...], rates: AdamRates) -> None:
        """As ``adam_rule``; ``vectors``: parameters, gradient, m and v."""
        self._function(
            vectors[0].size, *(vector.ctypes.data for vector in vectors),
            rates.beta1, 1 - rates.beta1, rates.beta2, 1 - rates.beta2,
            rates.root_scale, rates.epsilon, rates.rate,
        )  # fmt: skip


def update_adam(
    parameters: Vector,
    gradient: Vector,
    slots: dict[str, Vector],
    scratch: tuple[Vector, Vector],
    rates: AdamRates,
) -> None:
    """As ``adam_rule``, by the compiled kernel where there is one; the bits are the same.

    The temporary memory may be shorter than the vectors.
    """
    size, block = parameters.size, scratch[0].size
    kernel = adam_kernel(parameters.dtype) if size >= LEAST else None
    vectors = parameters, gradient, slots["m"], slots["v"]
    if kernel is not None and kernel.takes(vectors):
        kernel.run(vectors, rates)
        return
    for start in range(0, size, max(1, block)):
        part = slice(start, start + block)
        p, g, m, v = (vector[part] for vector in vectors)
        adam_rule(p, g, {"m": m, "v": v}, (scratch[0][: p.size], scratch[1][: p.size]), rates)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the kernels, compiled once in a process; None if that is impossible."""
    try:
        return load(SOURCE)
    except NotCompiledError as error:
        logger.info("Adam is computed by numpy, not by a compiled kernel: %s", error)
        return None


@functools.cache
def adam_kernel(dtype: np.dtype[Any]) -> AdamKernel | None:
    """Return the kernel for vectors of this type, or None where numpy has to do it."""
    function = getattr(_library(), f"adam_{dtype.name}", None)
    if function is None:
        return None
    function.restype = None
    function.argtypes = [ctypes.c_size_t, *[ctypes.c_void_p] * 4, *[ctypes.c_double] * 7]
    kernel = AdamKernel(function, dtype)
    if not agrees(kernel, dtype):
        logger.info("Adam is computed by numpy: the compiled kernel rounds in another way")
        return None
    return kernel


@np.errstate(all="ignore")
def agrees(kernel: AdamKernel, dtype: np.dtype[Any]) -> bool:
    """Return whether a kernel has the bits of ``adam_rule`` on numbers of many magnitudes."""
    rng = np.random.default_rng(0)
    limits = np.finfo(dtype)
    least, most = np.log10(limits.smallest_subnormal), np.log10(limits.max)
    powers = 10.0 ** rng.uniform(least, most, _COMPARED)
    powers[::2] = 10.0 ** rng.uniform(-9, 3, powers[::2].size)
    gradient = (rng.uniform(-1, 1, _COMPARED) * powers).astype(dtype)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, limits.max, limits.smallest_subnormal]
    gradient[: 11 * len(special) : 11] = special
    zeros = np.zeros(_COMPARED, dtype)
    start = rng.standard_normal(_COMPARED).astype(dtype), zeros, zeros
    ours, theirs = ([vector.copy() for vector in start] for _ in range(2))
    scratch = np.empty(_COMPARED, dtype), np.empty(_COMPARED, dtype)
    for step in range(1, _STEPS + 1):
        rates = AdamRates(step, 1e-3, 0.9, 0.999, 1e-8)
        kernel.run((ours[0], gradient, ours[1], ours[2]), rates)
        slots = {"m": theirs[1], "v": theirs[2]}
        adam_rule(theirs[0], gradient, slots, scratch, rates)
        gradient *= -1.5
    pairs = zip(ours, theirs, strict=True)
    return all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in pairs)
