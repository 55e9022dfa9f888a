"""Write rows of points as a Parquet file. Needs pyarrow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

_TYPES: Final = {
    "job": pa.string(), "metric": pa.string(), "first_step": pa.int64(), "step": pa.int64(),
    "epoch": pa.int64(), "count": pa.int64(), "retaken": pa.bool_(),
}  # fmt: skip


def written(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """Return a file with these columns; the types of empty ones are those of others."""
    schema = pa.schema([(name, _TYPES.get(name, pa.float64())) for name in columns])
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    arrays = [
        pa.array(column, field.type) for column, field in zip(values, schema, strict=True)
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file)
    return file.getvalue()
