"""Files larger than memory: training reads them in the memory of a few mini-batches.

A process of its own reads, so that its memory is that of the reading alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.deadline import DEADLINE

MIB = 2**20

# Prints how far the memory grew since before the file was opened (MiB), the samples read, and
# the sum of their inputs.
READ_AN_EPOCH = """
import resource, sys
import numpy as np
from dbp.data.batch_source import BatchSource
from dbp.data.sampler import batches, order
from dbp.registry import component_class

def most_memory():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024

kind, limit_mib, batch, steps = sys.argv[1], *map(int, sys.argv[2:5])
reader = component_class("readers", kind)(**dict(word.split("=") for word in sys.argv[5:]))
if limit_mib:
    resource.setrlimit(resource.RLIMIT_AS, (limit_mib * 2**20, limit_mib * 2**20))
before, samples, total = most_memory(), 0, 0.0
dataset = reader.open()
source = BatchSource(dataset, dtype=np.float32)
permutation = order(0, 0, len(dataset))
inputs, targets = source.allocate(batch)
for step, (start, stop) in enumerate(batches(len(dataset), batch)):
    if step == steps:
        break
    source.fill(permutation.take(start, stop), inputs[: stop - start], targets[: stop - start])
    samples += stop - start
    total += float(inputs[: stop - start].sum(dtype=np.float64))
print(most_memory() - before, samples, total)
"""

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status"),
]


def read_an_epoch(
    kind: str, *, batch: int, steps: int = 2**40, limit_mib: int = 0, **options: Any
) -> tuple[float, int, float]:
    words = [str(word) for word in (kind, limit_mib, batch, steps)]
    words += [f"{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-c", READ_AN_EPOCH, *words],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    grown, samples, total = done.stdout.split()
    return float(grown), int(samples), float(total)


def write_sparse_npy(path: Path, rows: int, columns: int, every: int) -> float:
    """An array of zeros, with ones in each ``every``-th row; returns the sum of all."""
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(stream, header)
        start = stream.tell()
        for row in range(0, rows, every):
            stream.seek(start + row * columns * 4)
            stream.write(np.ones(columns, "<f4").tobytes())
        stream.truncate(start + rows * columns * 4)
    return float(len(range(0, rows, every)) * columns)


def test_an_epoch_of_a_4_gib_file_in_1_gib_of_address_space(tmp_path: Path) -> None:
    rows, columns = 2**20, 1024
    inputs, targets = tmp_path / "x.npy", tmp_path / "y.npy"
    try:
        total = write_sparse_npy(inputs, rows, columns, every=4096)
        np.save(targets, np.zeros(rows, np.uint8))
        assert inputs.stat().st_size > 4 * 2**30

        grown, samples, found = read_an_epoch(
            "npy", batch=256, limit_mib=1024, inputs=inputs, targets=targets
        )
    finally:
        inputs.unlink()

    assert (samples, found) == (rows, total)
    assert grown < 16


def test_parts_of_4_gib_in_1_gib_of_address_space(tmp_path: Path) -> None:
    rows, columns, parts = 2**16, 1024, 16
    try:
        for part in range(parts):
            write_sparse_npy(tmp_path / f"x-{part:02}.npy", rows, columns, every=64)
            np.save(tmp_path / f"y-{part:02}.npy", np.zeros(rows, np.uint8))

        grown, samples, _ = read_an_epoch(
            "npy", batch=256, steps=500, limit_mib=1024,
            inputs=tmp_path / "x-*.npy", targets=tmp_path / "y-*.npy",
        )  # fmt: skip
    finally:
        for path in tmp_path.glob("x-*.npy"):
            path.unlink()

    assert samples == 500 * 256
    assert grown < 16


def test_rows_of_a_2_gib_hdf5_file_in_the_memory_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "all.h5"
    try:
        with h5py.File(path, "w") as file:
            x = file.create_dataset("x", (2**19, 1024), "f4")
            x[-1] = 1.0  # allocates the whole, which the file system keeps sparse
            file["y"] = np.zeros(2**19, np.uint8)
        assert path.stat().st_size > 2 * 2**30

        grown, samples, _ = read_an_epoch("hdf5", batch=256, steps=200, path=path)
    finally:
        path.unlink()

    assert samples == 200 * 256
    assert grown < 32


def test_a_1_gib_parquet_file_in_the_memory_of_row_groups(tmp_path: Path) -> None:
    path, rows, columns, groups = tmp_path / "all.parquet", 2**16, 64, 32
    names = [f"c{number}" for number in range(columns)]
    group = pa.table({name: np.arange(rows) % 7 / 7 for name in names} | {"y": np.arange(rows)})
    try:
        with pq.ParquetWriter(path, group.schema) as writer:
            for _ in range(groups):
                writer.write_table(group)

        grown, samples, _ = read_an_epoch("parquet", batch=4096, steps=3, path=path, target="y")
    finally:
        path.unlink()

    one_group = rows * columns * 8 / MIB
    assert rows * columns * groups * 8 >= 2**30
    assert samples == 3 * 4096
    assert grown < 3 * one_group + 96  # and what pyarrow itself takes
