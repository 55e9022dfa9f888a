"""Optimizers that PyTorch lacks, against their papers' formulas, written out plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.optim.apply import Updater
from dbp.optim.lamb import LAMB
from dbp.optim.lars import LARS
from dbp.optim.lion import Lion
from dbp.optim.schedule import Constant
from tests.closeness import assert_close

STEPS, RATE, DECAY = 30, 0.02, 0.1
SLICES = {"0.weight": slice(0, 40_000), "0.bias": slice(40_000, 40_050)}


def gradients() -> list[Any]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(40_050) for _ in range(STEPS)]


def ours(optimizer: Any) -> Any:
    p = np.random.default_rng(1).standard_normal(40_050)
    updater = Updater(optimizer, SLICES, ["0.bias"], dtype="float64")
    for step, g in enumerate(gradients(), 1):
        updater.step(p, g.copy(), step=step, total_steps=STEPS)
    return p


def lion(p: Any, g: Any, s: dict[str, Any], t: int, decay: float, weight: bool) -> Any:
    m = s.setdefault("m", np.zeros_like(p))
    c = 0.9 * m + 0.1 * g
    s["m"] = 0.99 * m + 0.01 * g
    return p - RATE * (np.sign(c) + decay * p)


def lars(p: Any, g: Any, s: dict[str, Any], t: int, decay: float, weight: bool) -> Any:
    norm = np.linalg.norm
    local = 0.5 * norm(p) / (norm(g) + decay * norm(p)) if weight else 1.0
    s["v"] = 0.9 * s.get("v", 0.0) + RATE * local * (g + decay * p)
    return p - s["v"]


def lamb(p: Any, g: Any, s: dict[str, Any], t: int, decay: float, weight: bool) -> Any:
    s["m"] = 0.9 * s.get("m", 0.0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0.0) + 0.001 * g**2
    r = s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-6) + decay * p
    ratio = np.linalg.norm(p) / np.linalg.norm(r) if weight else 1.0
    return p - RATE * ratio * r


@pytest.mark.parametrize(
    ("optimizer", "rule"),
    [
        (Lion(learning_rate=Constant(rate=RATE), weight_decay=DECAY), lion),
        (LARS(learning_rate=Constant(rate=RATE), weight_decay=DECAY, trust=0.5), lars),
        (LAMB(learning_rate=Constant(rate=RATE), weight_decay=DECAY), lamb),
    ],
    ids=["lion", "lars", "lamb"],
)
def test_thirty_steps_follow_the_paper(optimizer: Any, rule: Any) -> None:
    p = np.random.default_rng(1).standard_normal(40_050)
    for name, place in SLICES.items():
        weight, state, own = name == "0.weight", {}, p[place]  # type: ignore[var-annotated]
        for t, g in enumerate(gradients(), 1):
            own = rule(own, g[place], state, t, DECAY if weight else 0.0, weight)
        p[place] = own

    assert_close(ours(optimizer), p, 1e-11)


def test_a_weight_tensor_of_zeros_is_updated() -> None:
    for optimizer in (LARS(), LAMB()):
        p = np.zeros(10)
        updater = Updater(optimizer, {"w": slice(0, 10)}, [], dtype="float64")
        updater.step(p, np.ones(10), step=1, total_steps=1)
        assert np.isfinite(p).all()
        assert (p < 0).all()
