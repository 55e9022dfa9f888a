"""A fault that would break a promise of dbp, and the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

POWER: Final = (
    "tests/durability/test_power_loss.py::test_acknowledged_facts_survive_a_power_cut"
)
EVERY_CUT: Final = POWER.replace("a_power_cut", "every_power_cut")
KILL: Final = "tests/durability/test_kill_points.py::test_acknowledged_facts_survive_a_kill"
AFTER_KILL: Final = f"{POWER}_after_any_kill"


@final
@dataclass(frozen=True)
class Mutant:
    """Replaces ``old``, which is in the file exactly once; ``killers`` must fail then."""

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]


def cut(act: str) -> tuple[str, ...]:
    """Return the killer that cuts the power once in an act."""
    return (f"{POWER}[{act}]",)
