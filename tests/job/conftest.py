"""A small valid document, fresh for each test."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "name": "digits",
        "data": {"train": {"kind": "digits"}, "validation": {"fraction": 0.1}},
        "model": {
            "layers": [
                {"kind": "dense", "units": 32, "activation": "relu"},
                {"kind": "dense", "units": 10},
            ],
            "loss": "softmax_cross_entropy",
        },
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"epochs": 2},
    }
