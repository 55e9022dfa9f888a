"""Selections: any part of any file is a valid file, and nothing damaged leaves unseen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.control.version_file import OpenVersion, read_header
from dbp.errors import DataLoss, NotFound
from dbp.job.state import Version
from dbp.service import selection
from dbp.service.selection import Selection

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


def opened(path: Path, content: bytes) -> OpenVersion:
    path.write_bytes(content)
    file = path.open("rb")
    manifest, data_offset = read_header(file, str(path))
    digest = hashlib.sha256(content).hexdigest()
    version = Version(1, 1, 1, digest, len(content), 0.0)
    return OpenVersion(version, manifest, data_offset, path, file)


def stored(sizes: list[int]) -> tuple[dict[str, np.ndarray], bytes]:
    rng = np.random.default_rng(sum(sizes))
    arrays = {
        name: rng.standard_normal(size, np.float32)
        for name, size in zip(NAMES, sizes, strict=True)
    }
    return arrays, safetensors.numpy.save(arrays)


@given(
    sizes=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    chosen=st.sets(st.sampled_from(NAMES), min_size=1),
    chunk=st.integers(1, 64),
)
@settings(max_examples=60, deadline=None)
def test_any_selection_in_any_chunks_is_a_valid_file(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chosen: set[str], chunk: int
) -> None:
    arrays, content = stored(sizes)
    path = tmp_path_factory.getbasetemp() / "selected.safetensors"
    with opened(path, content) as version, pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "CHUNK_BYTES", chunk)
        picked = Selection(version, sorted(chosen))
        chunks = list(picked.chunks())

    found = b"".join(chunks)
    assert all(0 < len(part) <= chunk for part in chunks)
    assert picked.size == len(found)
    assert picked.digest == hashlib.sha256(found).hexdigest()
    loaded = safetensors.numpy.load(found)
    assert loaded.keys() == chosen
    assert all(np.array_equal(loaded[name], arrays[name]) for name in chosen)
    assert (found == content) == (len(chosen) == 4)


def test_a_file_that_changes_while_it_is_read_is_not_passed_off(tmp_path: Path) -> None:
    _, content = stored([4, 4, 4, 4])
    with opened(tmp_path / "f", content) as version:
        picked = Selection(version, [])
        (tmp_path / "f").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataLoss, match="damaged"):
            list(picked.chunks())


@pytest.mark.parametrize("patterns", [[], ["2.*"]])
def test_a_file_that_is_cut_while_it_is_read_is_not_passed_off(
    tmp_path: Path, patterns: list[str]
) -> None:
    _, content = stored([4, 4, 4, 4])
    with opened(tmp_path / "f", content) as version:
        picked = Selection(version, patterns)
        (tmp_path / "f").write_bytes(content[:-20])
        with pytest.raises(DataLoss, match="cut short"):
            list(picked.chunks())


def test_every_pattern_must_match_something(tmp_path: Path) -> None:
    _, content = stored([1, 1, 1, 1])
    refusal = pytest.raises(NotFound, match=r"'4\.\*' matches none")
    with opened(tmp_path / "f", content) as version, refusal:
        Selection(version, ["0.*", "4.*"])
