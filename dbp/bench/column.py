"""The columns of the table: programs that compute the same step, and when one cannot run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final, Literal, final

Program = Literal["dbp", "products", "torch", "jax"]

INSTALL: Final = "install it with: pip install 'dbp[bench]'"


@final
@dataclass(frozen=True)
class Column:
    """One way to compute the step.

    Attributes:
        program: The framework.
        settings: How it is set, for people.
        processes: Whether it runs one process a core; else one process with a thread a core.
        alone: One process with one thread, however many cores are measured.
        train: Fields of ``[train]``, of dbp.
        compiled: Whether PyTorch compiles the model.
        isolated: Each process of dbp trains its share of the mini-batch by itself.
    """

    program: Program
    settings: str
    processes: bool = False
    alone: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)
    compiled: bool = False
    isolated: bool = False

    def layout(self, cores: int) -> tuple[int, int]:
        """Return the number of processes, and of threads in each."""
        if self.alone:
            return 1, 1
        return (cores, 1) if self.processes else (1, cores)

    def why_missing(self) -> str:
        """Return why this machine cannot run it, and the remedy; "" if it can."""
        if self.program in _PACKAGES and find_spec(self.program) is None:
            return f"{_PACKAGES[self.program]} is not installed; {INSTALL}"
        if self.compiled and not any(map(shutil.which, _compilers())):
            return "no C++ compiler, which torch.compile needs: install g++, or set $CXX"
        return ""


_PACKAGES: Final = {"torch": "PyTorch", "jax": "JAX"}


def _compilers() -> list[str]:
    return [os.environ.get("CXX") or "g++", "clang++"]


def _dbp(settings: str, *, alone: bool = False, **train: Any) -> Column:
    return Column("dbp", settings, processes=True, alone=alone, train=train)


# The one table of columns: a setting of dbp is a row with its fields of [train].
COLUMNS: Final[Mapping[str, Column]] = {
    "exact": _dbp("the default", numerics="exact"),
    "fast": _dbp("numerics = fast", numerics="fast"),
    "products": Column("products", "the matrix products alone, by numpy", processes=True),
    "DDP": Column(
        "torch", "gloo, fused optimizer, gradient_as_bucket_view, static_graph", processes=True
    ),
    "PyTorch": Column("torch", "fused optimizer"),
    "PyTorch compiled": Column("torch", "fused optimizer, torch.compile", compiled=True),
    "JAX": Column("jax", "the whole step in one jit, buffers donated"),
    "exact, 1 core": _dbp("the default", alone=True, numerics="exact"),
    "PyTorch, 1 core": Column("torch", "fused optimizer", alone=True),
    "compute alone": Column(
        "dbp", "exact, each process its share, without communication", processes=True,
        train={"numerics": "exact"}, isolated=True,
    ),
    "exact, 8 lanes": _dbp("lanes = 8", numerics="exact", lanes=8),
    "exact, 16 lanes": _dbp("lanes = 16", numerics="exact", lanes=16),
    "exact, allreduce": _dbp("exchange = allreduce", numerics="exact", exchange="allreduce"),
    "exact, overlapped": _dbp("exchange = overlapped", numerics="exact", exchange="overlapped"),
    "fast, allreduce": _dbp("exchange = allreduce", numerics="fast", exchange="allreduce"),
}  # fmt: skip

EXACT: Final = "exact"
PRODUCTS: Final = "products"
DDP: Final = "DDP"
MAIN: Final = tuple(COLUMNS)[:7]  # all cores: dbp, the products, the peers at their best
ONE_CORE: Final = ("exact, 1 core", "PyTorch, 1 core")
ALONE: Final = "compute alone"
PEERS: Final = ("DDP", "PyTorch", "PyTorch compiled", "JAX")
