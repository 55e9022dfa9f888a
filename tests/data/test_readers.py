"""Every reader returns the arrays that were written, for any type, order and compression."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data import rows as rows_module
from dbp.data.csv import CSV
from dbp.data.dataset import Dataset, Reader
from dbp.data.idx import IDX
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.errors import InvalidData
from dbp.registry import component_class, kinds

Array = np.ndarray

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def write_idx(path: Path, array: Array, *, zipped: bool = False) -> str:
    code = IDX_CODES[array.dtype.str[1:]]
    head = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return str(path)


def write_npy(path: Path, array: Array) -> str:
    np.save(path, array)
    return str(path)


def inputs_of(dataset: Dataset, dtype: Any = None) -> Array:
    info = dataset.info
    out = np.empty((len(dataset), *info.input_shape), dtype or info.input_dtype)
    dataset.take_inputs(np.arange(len(dataset)), out)
    return out


def targets_of(dataset: Dataset, dtype: Any = np.int64) -> Array:
    out = np.empty((len(dataset), *dataset.info.target_shape), dtype)
    dataset.take_targets(np.arange(len(dataset)), out)
    return out


def sample_array(dtype: str, shape: tuple[int, ...] = (7, 3, 2)) -> Array:
    rng = np.random.default_rng(5)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)


LABELS = np.array([0, 1, 2, 1, 0, 2, 1], np.uint8)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dtype", list(IDX_CODES))
def test_idx_gives_back_every_type_plain_and_zipped(
    tmp_path: Path, dtype: str, zipped: bool
) -> None:
    x = sample_array(dtype)

    reader = IDX(
        inputs=write_idx(tmp_path / "x", x, zipped=zipped),
        targets=write_idx(tmp_path / "y", LABELS, zipped=not zipped),
    )
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.input_dtype == np.dtype(dtype)
    assert dataset.info.target_kind == "class"
    np.testing.assert_array_equal(inputs_of(dataset), x)
    np.testing.assert_array_equal(targets_of(dataset), LABELS)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "<i2", ">i4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"]
)
def test_npy_gives_back_every_type_and_order(tmp_path: Path, dtype: str, order: Any) -> None:
    x = np.asarray(sample_array(dtype), order=order)

    reader = NPY(
        inputs=write_npy(tmp_path / "x.npy", x), targets=write_npy(tmp_path / "y.npy", LABELS)
    )
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.input_dtype.isnative
    np.testing.assert_array_equal(inputs_of(dataset), x)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_reads_every_version_of_the_format(
    tmp_path: Path, version: tuple[int, int]
) -> None:
    x = sample_array("<f4")
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array(stream, x, version=version)

    dataset = NPY(
        inputs=str(tmp_path / "x.npy"), targets=write_npy(tmp_path / "y.npy", LABELS)
    ).open()

    np.testing.assert_array_equal(inputs_of(dataset), x)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "u1"])
def test_a_large_npy_stays_on_disk_and_gives_the_rows_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 10)
    x = sample_array(dtype, (50, 3))
    dataset = NPY(
        inputs=write_npy(tmp_path / "x.npy", x),
        targets=write_npy(tmp_path / "y.npy", np.arange(50)),
    ).open()
    chosen = np.array([49, 3, 4, 5, 0, 0, 17])

    out = np.empty((7, 3), np.float32)
    dataset.take_inputs(chosen, out)

    np.testing.assert_array_equal(out, x[chosen].astype(np.float32))
    np.testing.assert_array_equal(inputs_of(dataset), x)
    np.testing.assert_array_equal(targets_of(dataset), np.arange(50))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_back_arrays_stored_and_deflated(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "all.npz"
    x = sample_array(">f8")
    save(path, images=x, labels=LABELS, other=np.zeros(3))

    reader = NPZ(path=str(path), inputs="images", targets="labels")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    np.testing.assert_array_equal(inputs_of(dataset), x)
    np.testing.assert_array_equal(targets_of(dataset), LABELS)


def test_npz_from_a_plain_zip_tool_is_read_too(tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", sample_array("<f4"))
    write_npy(tmp_path / "y.npy", LABELS)
    with zipfile.ZipFile(tmp_path / "all.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
        archive.write(tmp_path / "y.npy", "y.npy")

    dataset = NPZ(path=str(tmp_path / "all.npz")).open()

    np.testing.assert_array_equal(inputs_of(dataset), sample_array("<f4"))


def test_inputs_are_converted_to_the_buffer_s_type_and_folding(tmp_path: Path) -> None:
    x = sample_array("u1")
    dataset = NPY(
        inputs=write_npy(tmp_path / "x.npy", x), targets=write_npy(tmp_path / "y.npy", LABELS)
    ).open()

    out = np.empty((7, 6), np.float64)
    dataset.take_inputs(np.arange(7), out)

    np.testing.assert_array_equal(out, x.reshape(7, 6))


@pytest.mark.parametrize(
    ("targets", "asked", "kind", "shape"),
    [
        (np.arange(7), "auto", "class", ()),
        (np.arange(7)[:, None], "auto", "class", ()),
        (np.arange(7) > 3, "auto", "class", ()),
        (np.arange(7), "values", "values", ()),
        (np.arange(7.0), "auto", "values", ()),
        (np.arange(7.0), "class", "class", ()),
        (np.ones((7, 2)), "auto", "values", (2,)),
        (np.ones((7, 2), int), "auto", "values", (2,)),
    ],
)
def test_targets_are_classes_or_values(
    tmp_path: Path, targets: Array, asked: Any, kind: str, shape: tuple[int, ...]
) -> None:
    dataset = NPY(
        inputs=write_npy(tmp_path / "x.npy", sample_array("<f4")),
        targets=write_npy(tmp_path / "y.npy", targets),
        target_kind=asked,
    ).open()

    assert (dataset.info.target_kind, dataset.info.target_shape) == (kind, shape)
    np.testing.assert_array_equal(
        targets_of(dataset, np.float64), targets.reshape(7, *shape).astype(float)
    )


def csv_file(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize("header", ["a,b,c\n", "\ufeffa,b,c\r\n", '"a","b, too","c"\n', ""])
def test_csv_finds_the_header_itself(tmp_path: Path, header: str) -> None:
    path = csv_file(tmp_path, header + "1,2.5,0\n\n-3e1, 4 ,1\n")

    dataset = CSV(path=path).open()

    np.testing.assert_array_equal(inputs_of(dataset), [[1, 2.5], [-30, 4]])
    np.testing.assert_array_equal(targets_of(dataset), [0, 1])
    assert dataset.info == CSV(path=path).inspect()


@pytest.mark.parametrize("target", ["b", 1, -2])
def test_csv_target_by_name_and_position(tmp_path: Path, target: Any) -> None:
    path = csv_file(tmp_path, "a\tb\tc\n1\t2\t3\n4\t5\t6")

    dataset = CSV(path=path, target=target, delimiter="\t").open()

    np.testing.assert_array_equal(inputs_of(dataset), [[1, 3], [4, 6]])
    np.testing.assert_array_equal(targets_of(dataset), [2, 5])


def test_csv_header_said_to_be_there_or_not(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1,2,0\n3,4,1\n")

    assert len(CSV(path=path, header="yes").open()) == 1
    assert len(CSV(path=path, header="no").open()) == 2


def test_csv_names_among_which_is_a_number_are_said_to_be_names(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "id,2019,label\n5,6,0\n")

    with pytest.raises(InvalidData, match=r"data\.csv:1: column 0 .*'id'.*header = \"yes\""):
        CSV(path=path).open()

    np.testing.assert_array_equal(inputs_of(CSV(path=path, header="yes").open()), [[5, 6]])


def test_csv_header_of_names_like_numbers_with_underscores(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1_1,1_2,label\n5,6,0\n")

    np.testing.assert_array_equal(inputs_of(CSV(path=path).open()), [[5, 6]])


def test_csv_names_of_classes_are_numbered_in_alphabetical_order(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1,setosa\n2,versicolor\n3, setosa\n4,Iris\n")

    dataset = CSV(path=path).open()

    assert dataset.info.class_names == ("Iris", "setosa", "versicolor")
    np.testing.assert_array_equal(targets_of(dataset), [1, 2, 1, 0])


@pytest.mark.parametrize(
    ("cells", "asked", "kind"),
    [
        (["0", "2"], "auto", "class"),
        (["0.0", "2.0"], "auto", "values"),
        (["0.0", "2.0"], "class", "class"),
        (["-1", "2"], "auto", "values"),
        (["0", "2"], "values", "values"),
    ],
)
def test_csv_target_kind(tmp_path: Path, cells: list[str], asked: Any, kind: str) -> None:
    path = csv_file(tmp_path, "".join(f"1,{cell}\n" for cell in cells))

    dataset = CSV(path=path, target_kind=asked).open()

    assert dataset.info.target_kind == kind
    np.testing.assert_array_equal(targets_of(dataset, float), [float(cell) for cell in cells])


def test_csv_equals_numpy_s_own_parser_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 9)) * 10.0 ** rng.integers(-200, 200, (200, 9))
    np.savetxt(tmp_path / "n.csv", values, delimiter=";", fmt="%.17g")

    dataset = CSV(path=str(tmp_path / "n.csv"), delimiter=";").open()

    np.testing.assert_array_equal(inputs_of(dataset), values[:, :-1])
    np.testing.assert_array_equal(targets_of(dataset, float), values[:, -1])


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "a", "7"])
def test_csv_refuses_invalid_delimiters(delimiter: str) -> None:
    with pytest.raises(ValueError, match=r"^delimiter: "):
        CSV(path="x", delimiter=delimiter)


def test_csv_refuses_a_named_target_without_a_header() -> None:
    with pytest.raises(ValueError, match=r"^target: "):
        CSV(path="x", target="label", header="no")


def test_every_reader_is_registered_under_its_kind() -> None:
    found = {kind: component_class("readers", kind) for kind in kinds("readers")}

    own = ["csv", "digits", "hdf5", "idx", "npy", "npz", "parquet", "safetensors"]
    own += ["teacher", "tsv"]
    assert set(own) <= set(found)
    assert all(issubclass(found[kind], Reader) for kind in own)


def test_csv_several_targets_by_name(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,up,b,down\n1,2,3,4\n5,6,7,8\n")

    dataset = CSV(path=path, targets=("down", "up")).open()

    assert (dataset.info.target_kind, dataset.info.target_shape) == ("values", (2,))
    np.testing.assert_array_equal(inputs_of(dataset), [[1, 3], [5, 7]])
    np.testing.assert_array_equal(targets_of(dataset, float), [[4, 2], [8, 6]])


@pytest.mark.parametrize(
    "options",
    [
        {"targets": ()},
        {"targets": ("a",), "target": 0},
        {"targets": ("a", "b"), "target_kind": "class"},
        {"targets": ("a", "b"), "header": "no"},
    ],
)
def test_csv_refuses_targets_that_contradict_other_options(options: Any) -> None:
    with pytest.raises(ValueError, match=r"^targets: "):
        CSV(path="x", **options)


def test_csv_text_among_the_inputs_is_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,color,label\n1,red,0\n")

    with pytest.raises(
        InvalidData, match=r"data\.csv:2: column 'color': 'red' .*inputs must be numbers"
    ):
        CSV(path=path).open()
