"""Every installed optimizer keeps the contract; a new kind is tested once it is registered."""

from __future__ import annotations

from typing import Any

import pytest

from dbp.optim.schedule import Constant, Cosine
from dbp.registry import component_class, kinds
from dbp.testing import check_optimizer

REQUIRED: dict[str, dict[str, Any]] = {}
RATES = {"adagrad": 0.5}  # whose steps become ever smaller


@pytest.mark.parametrize("kind", kinds("optimizers"))
def test_every_optimizer_keeps_the_contract(kind: str) -> None:
    options = REQUIRED.get(kind, {"learning_rate": Constant(rate=RATES.get(kind, 0.01))})

    check_optimizer(component_class("optimizers", kind)(**options))


@pytest.mark.parametrize("kind", kinds("optimizers"))
def test_every_optimizer_takes_a_schedule(kind: str) -> None:
    optimizer = component_class("optimizers", kind)(
        **REQUIRED.get(kind, {}),
        learning_rate=Cosine(peak=RATES.get(kind, 0.05), warmup_steps=10),
    )

    check_optimizer(optimizer)
