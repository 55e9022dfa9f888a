"""The workloads that are measured: model, mini-batch, optimizer, number of timed steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from dbp.json_value import JsonObject

INPUTS: Final = "inputs.npy"
TARGETS: Final = "targets.npy"
CLASSES: Final = 10
SEED: Final = 0
NEVER: Final = 10**9  # steps


@final
@dataclass(frozen=True)
class Workload:
    """A classifier with softmax cross-entropy, in float32.

    Attributes:
        layers: Layers as in a spec, activations as layers of their own, so that positions
            are those of ``torch.nn.Sequential``.
        input_shape: Shape of a sample.
        batch_size: Samples of a mini-batch, over all ranks.
        optimizer: Kind of the update rule.
        learning_rate: Constant.
        momentum: Of the update rule "momentum"; 0 for the others.
        steps: Steps that a round times.
        warmup: Steps before them.
    """

    layers: tuple[JsonObject, ...]
    input_shape: tuple[int, ...]
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float = 0.0
    steps: int = 50
    warmup: int = 10

    def spec(self, folder: str, steps: int, train: Mapping[str, Any]) -> dict[str, Any]:
        """Return the workload as a job of dbp, over the files in a folder."""
        optimizer: dict[str, Any] = {
            "kind": self.optimizer,
            "learning_rate": self.learning_rate,
        }
        if self.momentum:
            optimizer["momentum"] = self.momentum
        files = {"inputs": f"{folder}/{INPUTS}", "targets": f"{folder}/{TARGETS}"}
        return {
            "name": "benchmark",
            "seed": SEED,
            "data": {"train": {"kind": "npy", **files}},
            "model": {"layers": list(self.layers), "loss": "softmax_cross_entropy"},
            "optimizer": optimizer,
            "train": {"batch_size": self.batch_size, "steps": steps, **train},
            "publish": {"every_steps": NEVER},
            "checkpoint": {"every_steps": NEVER},
        }


def _perceptron(*units: int) -> tuple[JsonObject, ...]:
    """Return dense layers with these outputs, relu between them."""
    layers: list[JsonObject] = []
    for count in units:
        layers += [{"kind": "dense", "units": count}, {"kind": "relu"}]
    return tuple(layers[:-1])


_LENET: Final[tuple[JsonObject, ...]] = (
    {"kind": "conv2d", "filters": 6, "kernel": 5, "padding": 2},
    {"kind": "relu"},
    {"kind": "max_pool2d", "kernel": 2},
    {"kind": "conv2d", "filters": 16, "kernel": 5},
    {"kind": "relu"},
    {"kind": "max_pool2d", "kernel": 2},
    {"kind": "flatten"},
    *_perceptron(120, 84, CLASSES),
)

WORKLOADS: Final[Mapping[str, Workload]] = {
    "small": Workload(
        _perceptron(128, CLASSES), (784,), 128, "sgd", 0.05, steps=400, warmup=50
    ),
    "medium": Workload(
        _perceptron(512, 512, CLASSES), (784,), 256, "adam", 1e-3, steps=100, warmup=15
    ),
    "wide": Workload(
        _perceptron(2048, 2048, 2048, CLASSES), (784,), 1024, "momentum", 0.01,
        momentum=0.9, steps=8, warmup=2,
    ),
    "lenet": Workload(
        _LENET, (1, 28, 28), 128, "momentum", 0.01, momentum=0.9, steps=100, warmup=15
    ),
}  # fmt: skip

TITLES: Final[Mapping[str, str]] = {
    "small": "784-128-10, batch 128, SGD",
    "medium": "784-512-512-10, batch 256, Adam",
    "wide": "784-2048-2048-2048-10, batch 1024, momentum",
    "lenet": "LeNet-5 on 28x28 images, batch 128, momentum",
}
