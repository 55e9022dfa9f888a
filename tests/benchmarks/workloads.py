"""What is measured: workloads, and the variants that compute the same step of each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

RANKS: Final = 2


@dataclass(frozen=True)
class Workload:
    """A perceptron, relu between its layers, with softmax cross-entropy, in float32."""

    widths: tuple[int, ...]  # inputs first, classes last
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float = 0.0

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        pairs = itertools.pairwise(self.widths)
        return sum(inputs * outputs + outputs for inputs, outputs in pairs)

    def spec(self, folder: str, steps: int, train: Mapping[str, Any]) -> dict[str, Any]:
        """The workload as a job of dbp, over the files in a folder."""
        hidden = [
            {"kind": "dense", "units": units, "activation": "relu"}
            for units in self.widths[1:-1]
        ]
        optimizer = {"kind": self.optimizer, "learning_rate": self.learning_rate}
        if self.momentum:
            optimizer["momentum"] = self.momentum
        files = {"inputs": f"{folder}/inputs.npy", "targets": f"{folder}/targets.npy"}
        return {
            "name": "benchmark",
            "data": {"train": {"kind": "npy", **files}},
            "model": {
                "layers": [*hidden, {"kind": "dense", "units": self.widths[-1]}],
                "loss": "softmax_cross_entropy",
            },
            "optimizer": optimizer,
            "train": {"batch_size": self.batch_size, "steps": steps, **train},
            "publish": {"every_steps": 10**9},
            "checkpoint": {"every_steps": 10**9},
        }


WORKLOADS: Final[Mapping[str, Workload]] = {
    "small": Workload((784, 128, 10), 128, "sgd", 0.05),
    "medium": Workload((784, 512, 512, 10), 256, "adam", 1e-3),
    "wide": Workload((784, 2048, 2048, 2048, 10), 1024, "momentum", 0.01, momentum=0.9),
}


@dataclass(frozen=True)
class Variant:
    """One way to compute the step: by which program, with which fields of ``[train]``."""

    program: Literal["dbp", "torch_ddp", "torch", "products"]
    train: Mapping[str, Any] = field(default_factory=dict)


# The one table of variants: a setting of dbp is a row with its fields of [train].
VARIANTS: Final[Mapping[str, Variant]] = {
    "exact": Variant("dbp", {"numerics": "exact"}),
    "exact 8 lanes": Variant("dbp", {"numerics": "exact", "lanes": 8}),
    "exact allreduce": Variant("dbp", {"numerics": "exact", "exchange": "allreduce"}),
    "exact overlapped": Variant("dbp", {"numerics": "exact", "exchange": "overlapped"}),
    "fast": Variant("dbp", {"numerics": "fast"}),
    "fast allreduce": Variant("dbp", {"numerics": "fast", "exchange": "allreduce"}),
    "torch DDP": Variant("torch_ddp"),
    "torch 2 threads": Variant("torch"),
    "products": Variant("products"),
}
REFERENCE: Final = "torch DDP"
PRODUCTS: Final = "products"
