"""The compiled rule of Adam has the bits of numpy's."""

from __future__ import annotations

import logging
import shutil
from typing import Any

import numpy as np
import pytest

from dbp.optim import adam_kernel as module
from dbp.optim.adam import Adam
from dbp.optim.adam_kernel import LEAST, AdamKernel, adam_kernel, agrees, update_adam
from dbp.optim.adam_rule import AdamRates, adam_rule
from dbp.optim.apply import Updater
from dbp.optim.compiled import COMPILERS, FLAGS, NotCompiledError
from dbp.optim.schedule import Constant, Schedule

pytestmark = pytest.mark.processes

DTYPES = [np.float32, np.float64]
compiled = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="no C compiler on this machine"
)


def vectors(size: int, dtype: Any, seed: int) -> list[np.ndarray[Any, Any]]:
    """Parameters, gradient, m and v of many magnitudes, down to subnormal numbers."""
    rng = np.random.default_rng(seed)
    least = -44 if dtype is np.float32 else -320
    powers = 10.0 ** rng.uniform(least, 3, size)
    numbers = [(rng.standard_normal(size) * powers).astype(dtype) for _ in range(3)]
    return [*numbers, np.abs(rng.standard_normal(size) * powers).astype(dtype)]


def bits(found: list[np.ndarray[Any, Any]]) -> list[bytes]:
    return [vector.tobytes() for vector in found]


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 7, 16, 31, 1_000, 33_333])
def test_the_bits_are_numpys(dtype: Any, size: int) -> None:
    kernel = adam_kernel(np.dtype(dtype))
    assert kernel is not None
    ours, theirs = vectors(size, dtype, 1), vectors(size, dtype, 1)
    scratch = np.empty(size, dtype), np.empty(size, dtype)

    for step in (1, 2, 3, 1_000, 10**6):
        rates = AdamRates(step, 0.003, 0.9, 0.999, 1e-8)
        kernel.run((ours[0], ours[1], ours[2], ours[3]), rates)
        with np.errstate(all="ignore"):
            slots = {"m": theirs[2], "v": theirs[3]}
            adam_rule(theirs[0], theirs[1], slots, scratch, rates)

        assert bits(ours) == bits(theirs)


@compiled
def test_what_the_kernel_cannot_take_is_left_to_numpy() -> None:
    rates = AdamRates(1, 0.1, 0.9, 0.999, 1e-8)
    size = 3 * LEAST
    for dtype, stride in ((np.float32, 2), (np.float16, 1)):
        wide = [vector.astype(dtype) for vector in vectors(size, np.float32, 2)]
        ours = [vector[::stride] for vector in wide]
        theirs = [vector.copy() for vector in ours]
        scratch = np.empty(size // stride, dtype), np.empty(size // stride, dtype)
        with np.errstate(all="ignore"):
            short = scratch[0][:100], scratch[1][:100]
            update_adam(ours[0], ours[1], {"m": ours[2], "v": ours[3]}, short, rates)
            adam_rule(theirs[0], theirs[1], {"m": theirs[2], "v": theirs[3]}, scratch, rates)

        assert bits(ours) == bits(theirs)


@compiled
def test_memory_that_cannot_be_written_is_not_written() -> None:
    fixed = np.frombuffer(bytes(4 * LEAST), np.float32)
    found = [np.ones(LEAST, np.float32) for _ in range(5)]
    slots, scratch = {"m": found[1], "v": found[2]}, (found[3], found[4])

    with pytest.raises(ValueError, match="read-only"):
        update_adam(fixed, found[0], slots, scratch, AdamRates(1, 0.1, 0.9, 0.999, 1e-8))
    assert not fixed.any()


@compiled
def test_a_rate_of_a_numpy_type_rounds_as_pythons() -> None:
    class Odd(Schedule):
        def value(self, step: int, total_steps: int) -> float:
            return np.float64(0.0123456789)

        def uses_total_steps(self) -> bool:
            return False

    found = []
    for schedule in (Odd(), Constant(rate=0.0123456789)):
        optimizer = Adam(learning_rate=schedule)
        updater = Updater(optimizer, {"w": slice(0, LEAST)}, [], dtype=np.float32)
        parameters, gradient, _, _ = vectors(LEAST, np.float32, 4)
        updater.step(parameters, gradient, step=1, total_steps=1)
        found.append([parameters])
    assert bits(found[0]) == bits(found[1])


def test_a_kernel_that_rounds_in_another_way_is_noticed() -> None:
    def close(size: int, parameters: int, *rest: object) -> None:
        """Change nothing: as a kernel that does not do its work."""

    assert not agrees(AdamKernel(close, np.dtype(np.float32)), np.dtype(np.float32))


@compiled
def test_a_library_with_fused_multiply_adds_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the processor has none the bits are right."""
    monkeypatch.setattr("dbp.optim.compiled.FLAGS", (*FLAGS, "-ffp-contract=fast"))
    monkeypatch.setattr(module, "_library", module._library.__wrapped__)

    with caplog.at_level(logging.INFO, "dbp"):
        kernel = adam_kernel.__wrapped__(np.dtype(np.float32))

    assert kernel is None or agrees(kernel, np.dtype(np.float32))
    assert (kernel is None) == ("rounds in another way" in caplog.text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_kernel_training_goes_on_and_says_why(
    dtype: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(source: object) -> None:
        raise NotCompiledError("no C compiler")

    monkeypatch.setattr(module, "load", refuse)
    monkeypatch.setattr(module, "_library", module._library.__wrapped__)
    with caplog.at_level(logging.INFO, "dbp"):
        assert adam_kernel.__wrapped__(np.dtype(dtype)) is None

    assert "computed by numpy, not by a compiled kernel: no C compiler" in caplog.text


@compiled
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_an_updater_takes_the_same_steps_with_and_without_it(
    monkeypatch: pytest.MonkeyPatch, weight_decay: float
) -> None:
    """Longer than a block, and with parts of other rates."""
    size = 100_003
    slices = {"weight": slice(0, 90_000), "bias": slice(90_000, size)}
    optimizer = Adam(
        learning_rate=Constant(rate=0.01), weight_decay=weight_decay, bias_factor=2.0
    )
    found = []
    for kernel in (adam_kernel, lambda dtype: None):
        monkeypatch.setattr(module, "adam_kernel", kernel)
        monkeypatch.setattr("dbp.optim.adam.adam_kernel", kernel)
        updater = Updater(optimizer, slices, ["bias"], dtype=np.float32)
        parameters, gradient, _, _ = vectors(size, np.float32, 3)
        with np.errstate(all="ignore"):
            for step in (1, 2, 3):
                updater.step(parameters, gradient.copy(), step=step, total_steps=3)
        found.append([parameters, *updater.slots.values()])

    assert bits(found[0]) == bits(found[1])
