"""A small run from arrays, and the same run from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

LAYERS = [
    {"kind": "dense", "units": 12, "activation": "relu"},
    {"kind": "dropout", "rate": 0.1},
    {"kind": "dense", "units": 3},
]


def spec(**train: Any) -> dict[str, Any]:
    """A spec without data."""
    return {
        "name": "fit",
        "seed": 3,
        "data": {"scale": "standard"},
        "model": {"layers": LAYERS, "loss": "softmax_cross_entropy"},
        "optimizer": {"kind": "adam", "learning_rate": 0.01},
        "train": {"batch_size": 32, "epochs": 3} | train,
    }


def samples(count: int = 200, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5)).astype(np.float32)
    return x, np.argmax(x[:, :3], axis=1)


def spec_of_files(folder: Path, **train: Any) -> dict[str, Any]:
    """The spec with the samples as files in the folder."""
    data: dict[str, Any] = {"scale": "standard"}
    for part, (x, y) in (("train", samples()), ("validation", samples(60, 2))):
        np.save(folder / f"{part}-x.npy", x)
        np.save(folder / f"{part}-y.npy", y)
        data[part] = {
            "kind": "npy",
            "inputs": str(folder / f"{part}-x.npy"),
            "targets": str(folder / f"{part}-y.npy"),
        }
    return spec(**train) | {"data": data}


def numbers_of(file: Path) -> bytes:
    """The parameters in a safetensors file, without its header."""
    content = file.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def blas_threads() -> list[int]:
    """The number of threads of each BLAS library of this process."""
    found = threadpoolctl.threadpool_info()
    return [library["num_threads"] for library in found if library["user_api"] == "blas"]
