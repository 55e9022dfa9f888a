"""Arrays whose axes are stored in another order give the samples that models take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from dbp.data.dataset import Dataset, Reader
from dbp.data.hdf5 import HDF5
from dbp.data.idx import IDX
from dbp.data.layout import looks_channels_last, samples_last
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.safetensors import Safetensors
from dbp.errors import InvalidData

RNG = np.random.default_rng(4)
# Samples, channels, height, width: all of other lengths.
X = RNG.integers(0, 255, (7, 3, 5, 6)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 1, 0, 2, 1], np.uint8)

Make = Callable[[Path, np.ndarray, np.ndarray, np.ndarray | None], dict[str, Any]]


def write_idx(path: Path, array: np.ndarray) -> str:
    code = {"u1": 0x08, "f8": 0x0E}[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.astype(array.dtype.newbyteorder(">")).tobytes())
    return str(path)


def write_npy(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def write_hdf5(path: Path, **arrays: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def reader(kind: str, folder: Path, x: np.ndarray, y: np.ndarray, **options: Any) -> Reader:
    path = folder / f"all.{kind}"
    match kind:
        case "npy" | "npy in Fortran order":
            order = np.asfortranarray if kind != "npy" else np.ascontiguousarray
            return NPY(
                inputs=write_npy(folder / "x.npy", order(x)),
                targets=write_npy(folder / "y.npy", y), **options,
            )  # fmt: skip
        case "idx":
            return IDX(
                inputs=write_idx(folder / "x", x), targets=write_idx(folder / "y", y), **options
            )
        case "npz":
            np.savez(path, x=x, y=y)
            return NPZ(path=str(path), **options)
        case "hdf5":
            write_hdf5(path, x=x, y=y)
            return HDF5(path=str(path), **options)
        case _:
            save_file({"x": np.ascontiguousarray(x), "y": np.ascontiguousarray(y)}, path)
            return Safetensors(path=str(path), **options)


def read(dataset: Dataset, chosen: Any = None, dtype: Any = None) -> np.ndarray:
    chosen = np.arange(len(dataset)) if chosen is None else np.array(chosen)
    out = np.empty((len(chosen), *dataset.info.input_shape), dtype or dataset.info.input_dtype)
    dataset.take_inputs(chosen, out)
    return out


KINDS = ["npy", "npy in Fortran order", "idx", "npz", "hdf5", "safetensors"]


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["NHWC", "HWCN", "NCWH", "CHWN", "NCHW"])
def test_every_reader_puts_the_axes_into_the_model_s_order(
    tmp_path: Path, kind: str, layout: str
) -> None:
    stored = X.transpose(["NCHW".index(axis) for axis in layout])

    found = reader(kind, tmp_path, stored, LABELS, layout=layout)
    dataset = found.open()

    assert dataset.info == found.inspect()
    assert dataset.info.input_shape == (3, 5, 6)
    np.testing.assert_array_equal(read(dataset), X)
    chosen = [6, 0, 3, 3, 1]
    np.testing.assert_array_equal(read(dataset, chosen, np.float32), X[chosen])


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("kind", KINDS)
def test_features_by_samples_are_transposed(tmp_path: Path, kind: str) -> None:
    x = RNG.normal(size=(7, 4))

    dataset = reader(kind, tmp_path, x.T, LABELS, layout="CN").open()

    np.testing.assert_array_equal(read(dataset), x)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("layout", ["NHW", "HWN", "NWH"])
def test_images_without_channels_get_one(tmp_path: Path, layout: str) -> None:
    stored = X[:, 0].transpose(["NHW".index(axis) for axis in layout])

    dataset = reader("npy", tmp_path, stored, LABELS, layout=layout).open()

    assert dataset.info.input_shape == (1, 5, 6)
    np.testing.assert_array_equal(read(dataset), X[:, :1])


def test_a_mat_file_of_matlab_is_read_with_its_reversed_axes(tmp_path: Path) -> None:
    # MATLAB: X(5, 6, 3, 7), y(7, 1), w(7, 1); version 7.3 stores the axes in reverse.
    path, weights = tmp_path / "svhn.mat", np.arange(1.0, 8)
    write_hdf5(path, X=X.transpose(2, 3, 1, 0).T, y=LABELS[None], w=weights[None])

    found = HDF5(
        path=str(path), inputs="X", targets="y", weights="w", layout="NCWH",
        targets_layout="CN",
    )  # fmt: skip
    dataset = found.open()

    assert dataset.info == found.inspect()
    np.testing.assert_array_equal(read(dataset), X)
    targets, own = np.empty(7, np.int64), np.empty(7)
    dataset.take_targets(np.arange(7), targets)
    dataset.take_weights(np.arange(7), own)
    np.testing.assert_array_equal(targets, LABELS)
    np.testing.assert_array_equal(own, weights)


def test_several_targets_by_samples_are_transposed(tmp_path: Path) -> None:
    y = RNG.normal(size=(7, 2))

    dataset = reader("npz", tmp_path, X, y.T, targets_layout="CN").open()

    targets = np.empty((7, 2))
    dataset.take_targets(np.arange(7), targets)
    np.testing.assert_array_equal(targets, y)


@pytest.mark.parametrize(
    ("x", "y", "remedy"),
    [
        ((4, 150), (150,), 'layout = "CN"'),
        ((28, 28, 150), (150,), 'layout = "HWN"'),
        ((32, 32, 3, 150), (150,), 'layout = "HWCN"'),
        ((3, 32, 32, 150), (150,), 'layout = "CHWN"'),
        ((150, 4), (1, 150), 'targets_layout = "CN"'),
        ((150, 4), (2, 150), 'targets_layout = "CN"'),
        ((4, 150), (1, 150), 'layout = "CN", targets_layout = "CN"'),
    ],
)
def test_samples_along_the_last_axis_are_refused_with_the_remedy(
    tmp_path: Path, x: tuple[int, ...], y: tuple[int, ...], remedy: str
) -> None:
    found = reader("npy", tmp_path, np.ones(x), np.zeros(y))

    with pytest.raises(InvalidData) as caught:
        found.inspect()

    assert "they must be equally many" in str(caught.value)
    assert str(caught.value).endswith(f"if samples are the last axis: {remedy}")
    options = dict(part.split(" = ") for part in remedy.split(", "))
    options = {name: value.strip('"') for name, value in options.items()}
    again = reader("npy", tmp_path, np.ones(x), np.zeros(y), **options)
    assert again.inspect().samples == 150


def test_two_transposed_arrays_that_could_be_meant_are_noted(tmp_path: Path) -> None:
    found = reader("npy", tmp_path, np.ones((4, 150)), np.zeros((4, 150)))

    (note,) = found.inspect().notes
    assert 'layout = "CN", targets_layout = "CN"' in note
    assert found.open().info == found.inspect()
    assert reader("npy", tmp_path, np.ones((150, 4)), np.zeros((150, 4))).inspect().notes == ()


@pytest.mark.parametrize(
    "layout",
    ["", "N", "CHW", "NHWX", "NNC", "nhwc", "channels_last", "NCHWDN", "N,H,W"],
)
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (NPY, {"inputs": "x", "targets": "y"}),
        (IDX, {"inputs": "x", "targets": "y"}),
        (NPZ, {"path": "x"}),
        (HDF5, {"path": "x"}),
        (Safetensors, {"path": "x"}),
    ],
)
def test_a_layout_that_names_no_axes_is_refused(
    kind: Callable[..., Reader], names: dict[str, str], layout: str
) -> None:
    with pytest.raises(ValueError, match=r"^layout: must name the stored axes"):
        kind(**names, layout=layout)


def test_the_words_of_other_libraries_are_answered_with_the_letters() -> None:
    with pytest.raises(ValueError, match="channels last is NHWC"):
        NPZ(path="x", layout="channels_last")
    with pytest.raises(ValueError, match="write 'NHWC'"):
        NPZ(path="x", layout="nhwc")


@pytest.mark.parametrize(
    ("shape", "options", "remedy"),
    [
        ((7, 3, 6, 5), {}, 'X was 5 x 6 x 3 x 7 in MATLAB .*layout = "NCWH"'),
        ((7, 6, 5), {"layout": "NHW"}, 'W x N there, say layout = "NWH"'),
        ((7, 7), {}, 'N x C there, say layout = "CN"'),
        ((7, 3, 6, 5), {"layout": "NCWH"}, None),
        ((7, 3, 6, 5), {"layout": "NCHW"}, None),
        ((7, 4), {}, None),
    ],
)
def test_axes_that_matlab_stored_in_reverse_are_noted(
    tmp_path: Path, shape: tuple[int, ...], options: Any, remedy: str | None
) -> None:
    path = tmp_path / "data.mat"
    write_hdf5(path, X=np.ones(shape), y=np.arange(7) % 2)
    assert HDF5(path=str(path), inputs="X", **options).inspect().notes == ()
    with h5py.File(path, "r+") as file:
        file["X"].attrs["MATLAB_class"] = np.bytes_("double")

    reader = HDF5(path=str(path), inputs="X", **options)

    assert reader.inspect() == reader.open().info
    notes = " ".join(reader.inspect().notes)
    assert re.search(remedy, notes) if remedy else notes == ""


def test_a_layout_of_another_number_of_axes_is_refused(tmp_path: Path) -> None:
    found = reader("npy", tmp_path, X, LABELS, layout="NHW")

    for read_file in (Reader.inspect, Reader.open):
        with pytest.raises(InvalidData, match=r"x\.npy: shape \(7, 3, 5, 6\) has 4 axes, but"):
            getattr(found, read_file.__name__)()


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("layout", ["NHWC", "CN"])
def test_a_not_finite_number_is_placed_as_it_is_stored(tmp_path: Path, layout: str) -> None:
    stored = np.ones((7, 5, 6, 3) if layout == "NHWC" else (4, 7))
    stored[2, 4] = np.nan

    with pytest.raises(InvalidData, match=r"x\.npy: sample 2, element \[4") as caught:
        read(reader("npy", tmp_path, stored, LABELS, layout=layout).open())

    if layout == "CN":
        assert 'as stored, in the order of layout = "CN"' in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((32, 32, 3), True), ((28, 28, 1), True), ((64, 48, 4), True), ((3, 32, 32), False),
        ((1, 28, 28), False), ((32, 32), False), ((4, 4, 3), False), ((32, 3, 3), False),
        ((16, 16, 16), False), ((3, 64, 4), False),
    ],
)  # fmt: skip
def test_shapes_that_look_channels_last(shape: tuple[int, ...], last: bool) -> None:
    assert looks_channels_last(shape) is last


def test_layouts_of_samples_last() -> None:
    shapes = [(4, 9), (8, 8, 9), (8, 8, 3, 9), (3, 8, 8, 9), (2, 8, 8, 3, 9)]

    assert [samples_last(shape) for shape in shapes] == ["CN", "HWN", "HWCN", "CHWN", "DHWCN"]
