"""Small Parquet files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dbp.data.dataset import Dataset

RNG = np.random.default_rng(1)
A = RNG.normal(size=10)
B = RNG.integers(-5, 100, 10).astype(np.int16)
LABELS = np.array([2, 1, 0, 1, 2, 0, 0, 1, 2, 2])
NAMES = [("setosa", "Iris", "versicolor")[label] for label in LABELS]


def write(folder: Path, *, rows: int = 3, **columns: Any) -> str:
    return write_columns(folder, columns, rows)


def write_columns(folder: Path, columns: dict[str, Any], rows: int = 3) -> str:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return str(path)


def read(dataset: Dataset, chosen: Any = None) -> tuple[np.ndarray, np.ndarray]:
    info = dataset.info
    chosen = np.arange(len(dataset)) if chosen is None else np.array(chosen)
    inputs = np.empty((len(chosen), *info.input_shape), info.input_dtype)
    targets = np.empty((len(chosen), *info.target_shape))
    dataset.take_inputs(chosen, inputs)
    dataset.take_targets(chosen, targets)
    return inputs, targets
