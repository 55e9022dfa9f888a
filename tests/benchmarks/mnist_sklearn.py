"""Train scikit-learn's MLPClassifier until an epoch reaches an accuracy on the test set.

``python -m tests.benchmarks.mnist_sklearn ARGUMENTS``, a JSON object: folder, seed, target,
epochs, batch_size, learning_rate, hidden. Prints a JSON object.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neural_network import MLPClassifier


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Return the array of an IDX file of bytes."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def read(folder: Path, part: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return images as rows in [0, 1], and their labels."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return (
        images.reshape(len(images), -1).astype(np.float32) / np.float32(255),
        read_idx(folder / f"{part}-labels-idx1-ubyte.gz"),
    )


def main(arguments: str) -> None:
    asked = json.loads(arguments)
    folder = Path(asked["folder"])
    x, y = read(folder, "train")
    test_x, test_y = read(folder, "t10k")
    model = MLPClassifier(
        (asked["hidden"],), alpha=0.0, batch_size=asked["batch_size"],
        learning_rate_init=asked["learning_rate"], random_state=asked["seed"],
    )  # fmt: skip
    accuracy, epochs = 0.0, 0
    while accuracy < asked["target"] and epochs < asked["epochs"]:
        model.partial_fit(x, y, classes=np.arange(10))  # one epoch
        accuracy, epochs = float(model.score(test_x, test_y)), epochs + 1
    print(json.dumps({"time": time.time(), "epochs": epochs, "accuracy": accuracy}))


if __name__ == "__main__":
    main(sys.argv[1])
