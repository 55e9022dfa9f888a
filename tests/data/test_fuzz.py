"""Small files with bytes flipped, cut and inserted: InvalidData or a sound data set."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from dbp.data.classes import count_classes
from dbp.data.csv import CSV
from dbp.data.dataset import Dataset, Reader
from dbp.data.hdf5 import HDF5
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.parquet import Parquet
from dbp.data.safetensors import Safetensors
from dbp.errors import InvalidData

RNG = np.random.default_rng(0)
LABELS = np.arange(6, dtype=np.uint8)


def idx_file() -> bytes:
    return b"\0\0\x08\x03" + np.array([6, 2, 2], ">u4").tobytes() + RNG.bytes(24)


def npy_file(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_file() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=RNG.normal(size=(6, 3)), y=LABELS)
    return stream.getvalue()


def hdf5_file() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("x", data=RNG.normal(size=(6, 3)), chunks=(4, 3), fletcher32=True)
        file["y"] = LABELS
    return stream.getvalue()


def parquet_file() -> bytes:
    stream = io.BytesIO()
    names = [f"class {label % 3}" for label in LABELS]
    table = pa.table({"a": RNG.normal(size=6), "b": LABELS, "y": names})
    pq.write_table(table, stream, row_group_size=4)
    return stream.getvalue()


def idx_reader(path: Path) -> Reader:
    labels = path.with_name("labels")
    labels.write_bytes(b"\0\0\x08\x01\0\0\0\x06" + LABELS.tobytes())
    return IDX(inputs=str(path), targets=str(labels))


def npy_reader(path: Path) -> Reader:
    labels = path.with_name("labels")
    labels.write_bytes(npy_file(LABELS))
    return NPY(inputs=str(path), targets=str(labels))


KINDS: dict[str, tuple[bytes, Callable[[Path], Reader]]] = {
    "idx": (idx_file(), idx_reader),
    "idx.gz": (gzip.compress(idx_file()), idx_reader),
    "npy": (npy_file(RNG.normal(size=(6, 3))), npy_reader),
    "npy fortran": (npy_file(np.asfortranarray(RNG.normal(size=(6, 3)))), npy_reader),
    "npz": (npz_file(), lambda path: NPZ(path=str(path))),
    "hdf5": (hdf5_file(), lambda path: HDF5(path=str(path))),
    "parquet": (parquet_file(), lambda path: Parquet(path=str(path), target="y")),
    "safetensors": (
        save({"x": RNG.normal(size=(6, 3)), "y": LABELS}),
        lambda path: Safetensors(path=str(path)),
    ),
    "csv": (b'a,"b",label\n1,2.5,x\n-3,4e2,y\n5,6,x\n', lambda path: CSV(path=str(path))),
}


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(data) + 1))
        match rng.integers(0, 5):
            case 0 if at < len(data):
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1 if at < len(data):
                data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x2C, 0x0A]))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + int(rng.integers(1, 5))]
            case _:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        if not data:
            break
    return bytes(data)


def attempt(reader: Reader) -> tuple[Dataset | None, str]:
    """Return the data set, or None and the error message."""
    try:
        return reader.open(), ""
    except InvalidData as error:
        return None, str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_only_invalid_data_escapes_and_memory_stays_bounded(tmp_path: Path, kind: str) -> None:
    content, reader_of = KINDS[kind]
    rng = np.random.default_rng(list(kind.encode()))
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    count_classes(reader_of(path).open())
    refused = accepted = 0

    tracemalloc.start()
    try:
        for _ in range(600):
            path.write_bytes(mutate(content, rng))
            dataset, complaint = attempt(reader_of(path))
            if dataset is None:
                assert str(tmp_path) in complaint
                refused += 1
                continue
            accepted += 1
            inputs = np.empty((len(dataset), *dataset.info.input_shape))
            dataset.take_inputs(np.arange(len(dataset)), inputs)
            assert np.isfinite(inputs).all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 64 * 2**20
    assert refused > 100, "the fuzzer must reach the checks"
    assert refused + accepted == 600


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_of_a_file_is_refused_or_sound(tmp_path: Path, kind: str) -> None:
    content, reader_of = KINDS[kind]
    path = tmp_path / "cut"

    for length in range(len(content)):
        path.write_bytes(content[:length])
        if kind == "csv":
            # A text cut at the end of a line, or within its last number, is a sound text.
            dataset, complaint = attempt(reader_of(path))
            assert dataset is not None or str(path) in complaint
        else:
            with pytest.raises(InvalidData, match="/cut"):
                reader_of(path).open()
