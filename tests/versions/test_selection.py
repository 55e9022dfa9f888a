"""Selections: any part of any file is a valid file, and nothing damaged leaves unseen."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import (
    CorruptParameters,
    DataLoss,
    InvalidInput,
    ResourceExhausted,
    TensorNotFound,
)
from dbp.job.snapshot import decode_header
from dbp.job.state import Version
from dbp.versions.file import OpenVersion, read_header
from dbp.versions.selection import derive, selected

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


def opened(path: Path, content: bytes) -> OpenVersion:
    path.write_bytes(content)
    file = path.open("rb", buffering=0)
    manifest, data_offset = read_header(file, str(path))
    digest = hashlib.sha256(content).hexdigest()
    version = Version(1, 1, 1, digest, len(content), 0.0)
    return OpenVersion("job", version, manifest, data_offset, path, file)


def stored(sizes: list[int]) -> tuple[dict[str, np.ndarray], bytes]:
    rng = np.random.default_rng(sum(sizes))
    arrays = {
        name: rng.standard_normal(size, np.float32)
        for name, size in zip(NAMES, sizes, strict=True)
    }
    return arrays, safetensors.numpy.save(arrays)


def derived(version: OpenVersion, patterns: list[str], cast: str = "") -> bytes:
    """The bytes of a selection, whose size and digest are right."""
    selection = selected(version.version, version.manifest, patterns, cast)
    with derive(version, selection) as source:
        found = source.version
        content = source.read(0, found.size_bytes + 1)
        assert content[source.data_offset :] == source.read_exactly(
            source.data_offset, source.manifest.size_bytes
        )
    assert len(content) == found.size_bytes == selection.size
    assert hashlib.sha256(content).hexdigest() == found.digest
    return content


@given(
    sizes=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    chosen=st.sets(st.sampled_from(NAMES), min_size=1),
)
@settings(max_examples=60, deadline=None)
def test_any_selection_is_a_valid_file(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chosen: set[str]
) -> None:
    arrays, content = stored(sizes)
    path = tmp_path_factory.getbasetemp() / "selected.safetensors"
    with opened(path, content) as version:
        found = derived(version, sorted(chosen))

    loaded = safetensors.numpy.load(found)
    assert loaded.keys() == chosen
    assert all(np.array_equal(loaded[name], arrays[name]) for name in chosen)
    assert (found == content) == (len(chosen) == 4)
    assert not list(path.parent.glob(".derived-*"))


@pytest.mark.parametrize(("cast", "dtype"), [("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_floating_point_tensors_are_rounded_to_the_nearest(
    tmp_path: Path, cast: str, dtype: type, given: type
) -> None:
    values: np.ndarray = np.random.default_rng(0).standard_normal((70_001, 5)).astype(given)
    values[0] = [0.0, -0.0, np.inf, -np.inf, np.nan]
    content = safetensors.numpy.save({"a": values, "n": np.arange(3)})
    with opened(tmp_path / "f", content) as version:
        found = derived(version, [], cast)

    length = int.from_bytes(found[:8], "little")
    manifest = decode_header(found[8 : 8 + length], "found")
    assert manifest.metadata["dbp.cast"] == cast
    parts = {
        tensor.name: (tensor.dtype, found[8 + length + tensor.offset :][: tensor.size_bytes])
        for tensor in manifest.tensors
    }
    assert parts["n"] == ("I64", np.arange(3).tobytes()), "no floating-point tensor"
    assert parts["a"] == (cast, values.astype(dtype).tobytes())


def test_a_value_that_would_become_infinite_is_refused(tmp_path: Path) -> None:
    content = safetensors.numpy.save({"a": np.array([1.0, 7e4], np.float32)})
    with (
        opened(tmp_path / "f", content) as version,
        pytest.raises(InvalidInput, match=r"'a' holds 70000, beyond the range of F16; BF16"),
    ):
        derived(version, [], "F16")


@pytest.mark.parametrize(("patterns", "cast"), [(["2.*"], ""), ([], "BF16")])
def test_a_file_that_is_cut_while_it_is_read_is_not_passed_off(
    tmp_path: Path, patterns: list[str], cast: str
) -> None:
    _, content = stored([4, 4, 4, 4])
    with opened(tmp_path / "f", content) as version:
        (tmp_path / "f").write_bytes(content[:-20])
        with pytest.raises(CorruptParameters, match="cut short"):
            derived(version, patterns, cast)


@pytest.mark.parametrize("damaged", ["0.weight", "2.bias"])
@pytest.mark.parametrize("cast", ["", "BF16", "F16"])
def test_damage_anywhere_in_a_version_never_gets_a_digest_that_fits(
    tmp_path: Path, damaged: str, cast: str
) -> None:
    arrays, content = stored([4, 4, 4, 4])
    place = content.index(arrays[damaged].tobytes())
    with opened(tmp_path / "f", content) as version:
        with (tmp_path / "f").open("r+b") as file:
            file.seek(place)
            file.write(b"\xff\xff\x7f\x7f")  # the largest float32: none in F16
        with pytest.raises(CorruptParameters, match="version 1 is damaged") as told:
            derived(version, ["2.*"], cast)
    assert told.value.metadata == {"job": "job", "version": "1"}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ResourceExhausted),
        (errno.EMFILE, ResourceExhausted),
        (errno.EIO, DataLoss),
    ],
)
def test_a_machine_that_fails_is_reported_without_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    _, content = stored([4, 4, 4, 4])
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with (
        opened(tmp_path / "f", content) as version,
        pytest.raises(kind, match=os.strerror(number)) as told,
    ):
        derived(version, ["2.*"])
    assert str(tmp_path) not in str(told.value)


def test_every_pattern_must_match_something(tmp_path: Path) -> None:
    _, content = stored([1, 1, 1, 1])
    with (
        opened(tmp_path / "f", content) as version,
        pytest.raises(TensorNotFound, match=r"'4\.bais' matches none; nearest: \d\.b") as told,
    ):
        selected(version.version, version.manifest, ["0.*", "4.bais"])
    assert set(told.value.metadata["nearest"].split(", ")) == set(NAMES)
