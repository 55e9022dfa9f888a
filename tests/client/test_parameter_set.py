"""Parameters as a mapping from names to arrays: views of one file, equal by their bits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import pytest

from dbp.client.parameter_set import ParameterSet, parameter_set
from dbp.errors import DataLoss, InvalidFile
from dbp.job.snapshot import Manifest, TensorInfo, encode_header, manifest_of
from dbp.job.state import Version

VERSION = Version(3, 70, 1, "0" * 64, 48, 0.0)
SHAPES = {"0.weight": (2, 2), "0.bias": (2,)}


def given(*values: float, version: Version = VERSION, step: str = "70") -> ParameterSet:
    manifest = manifest_of(SHAPES, "F64", {"dbp.step": step})
    data = np.array(values or range(6), "<f8").tobytes()
    return parameter_set(version, memoryview(bytearray(content_of(manifest, data))))


def content_of(manifest: Manifest, data: bytes) -> memoryview:
    return memoryview(encode_header(manifest) + data)


def test_tensors_are_views_of_the_file_little_endian() -> None:
    values = np.arange(6, dtype="<f8")
    manifest = manifest_of({"0.weight": (2, 2), "0.bias": (2,)}, "F64", {"dbp.step": "70"})
    content = content_of(manifest, values.tobytes())

    found = parameter_set(VERSION, content)

    np.testing.assert_array_equal(found["0.weight"], [[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(found["0.bias"], [4.0, 5.0])
    assert found["0.bias"].dtype == np.dtype("<f8")
    assert found.metadata == {"dbp.step": "70"}
    assert np.shares_memory(found["0.bias"], np.frombuffer(content, np.uint8))


def test_a_scalar_and_an_empty_tensor_have_their_shapes() -> None:
    tensors = (TensorInfo("empty", "F32", (0, 3), 0), TensorInfo("scalar", "F32", (), 0))

    found = parameter_set(VERSION, content_of(Manifest(tensors), np.float32(7).tobytes()))

    assert found["empty"].shape == (0, 3)
    assert found["scalar"].shape == ()
    assert found["scalar"] == 7


def test_a_key_that_is_no_name_is_missing_like_any_other() -> None:
    found = given()

    assert found.get(5) is None  # type: ignore[call-overload]
    with pytest.raises(KeyError, match=r"5; tensors: 0\.weight, 0\.bias"):
        found[5]  # type: ignore[index]


def test_a_file_that_contradicts_its_header_is_refused() -> None:
    manifest = manifest_of({"0.bias": (2,)}, "F32", {})

    with pytest.raises(DataLoss, match="7 bytes came, the header says 8"):
        parameter_set(VERSION, content_of(manifest, bytes(7)))
    with pytest.raises(InvalidFile, match="version 3"):
        parameter_set(VERSION, memoryview(b"nonsense" * 8))


def test_a_set_is_a_mapping_from_names_to_arrays() -> None:
    found = given()

    assert isinstance(found, Mapping)
    assert list(found) == list(found.keys()) == ["0.weight", "0.bias"]
    assert len(found) == 2
    assert "0.bias" in found
    assert "1.bias" not in found
    assert found.get("1.bias") is None
    assert {name: array.shape for name, array in found.items()} == SHAPES
    assert [array.size for array in found.values()] == [4, 2]
    np.testing.assert_array_equal(dict(**found)["0.bias"], [4.0, 5.0])


def test_an_unknown_name_is_a_key_error_with_the_nearest_name() -> None:
    with pytest.raises(KeyError, match=r"0\.wieght, did you mean '0\.weight'"):
        given()["0.wieght"]


def test_sets_are_equal_by_names_types_shapes_and_bits() -> None:
    nan = float("nan")

    assert given() == given(version=Version(4, 80, 1, "1" * 64, 48, 1.0), step="80")
    assert given(nan, 1, 2, 3, 4, 5) == given(nan, 1, 2, 3, 4, 5)
    assert given() == dict(given())
    assert given() != given(0, 1, 2, 3, 4, 6)
    assert given() != given(-0.0, 1, 2, 3, 4, 5)
    assert given() != {"0.bias": given()["0.bias"]}
    assert given() != {name: array.astype("<f4") for name, array in given().items()}
    assert given() != {name: array[None] for name, array in given().items()}
    assert given() != {name: array.tolist() for name, array in given().items()}
    assert given() != "parameters"


def test_arrays_are_read_only_and_copies_are_not() -> None:
    found = given()

    with pytest.raises(ValueError, match="read-only"):
        found["0.bias"][0] = 7
    with pytest.raises(TypeError):
        found.content[0] = 7
    with pytest.raises(TypeError):
        found.tensors["0.bias"] = found["0.bias"]  # type: ignore[index]
    copied = found.copy()
    copied["0.bias"][0] = 7
    assert list(copied) == list(found)
    assert found["0.bias"][0] == 4


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_set_is_pickled_with_its_version_and_metadata(protocol: int) -> None:
    found = given()

    again = pickle.loads(pickle.dumps(found, protocol))

    assert again == found
    assert (again.version, again.metadata) == (VERSION, {"dbp.step": "70"})
    assert again.content == found.content
    assert not again["0.bias"].flags.writeable
    assert copy.deepcopy(found) == copy.copy(found) == found


def test_bfloat16_survives_a_pickle() -> None:
    values = np.arange(6).astype(ml_dtypes.bfloat16)
    content = content_of(manifest_of(SHAPES, "BF16", {}), values.tobytes())
    found = parameter_set(VERSION, content)

    again = pickle.loads(pickle.dumps(found))

    assert again["0.bias"].dtype == ml_dtypes.bfloat16
    assert again == found


def test_a_set_is_shown_in_one_line() -> None:
    assert repr(given()) == "<ParameterSet: version 3, step 70, 2 tensors>"
