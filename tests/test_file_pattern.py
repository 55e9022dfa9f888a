"""Which files a name with wildcards stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.file_pattern import is_pattern, matching_files, starred_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "set [1]*"
    inner.mkdir()
    for name in ("b-2.npy", "b-10.npy", "a-1.npy", ".b-3.npy", "b-2.npz", "c[1].npy"):
        (inner / name).touch()
    return inner


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("b-*.npy", ["b-10.npy", "b-2.npy"]),
        ("?-[0-9].npy", ["a-1.npy", "b-2.npy"]),
        (".*", [".b-3.npy"]),
        ("c[1].npy", ["c[1].npy"]),
        ("x*", []),
        ("plain", ["plain"]),
    ],
)
def test_files_come_in_the_order_of_their_names(
    folder: Path, pattern: str, names: list[str]
) -> None:
    assert matching_files(str(folder / pattern)) == [str(folder / name) for name in names]


def test_a_file_with_wildcards_in_its_name_is_meant_by_its_name(folder: Path) -> None:
    assert not is_pattern(str(folder / "c[1].npy"))
    assert is_pattern(str(folder / "c[2].npy"))
    assert not is_pattern(str(folder / "x"))
    assert not is_pattern("")


def test_wildcards_in_folders_are_none(folder: Path) -> None:
    assert matching_files(f"{folder.parent}/*/b-2.npy") == [f"{folder.parent}/*/b-2.npy"]
    with pytest.raises(FileNotFoundError):
        matching_files(f"{folder.parent}/s*/b*.npy")


@pytest.mark.parametrize(
    ("pattern", "path", "text"),
    [
        ("b-*.npy", "/d/b-10.npy", "10"),
        ("*", "x", "x"),
        ("b-??", "b-10", None),
        ("x", "x", None),
    ],
)
def test_what_a_star_stands_for(pattern: str, path: str, text: str | None) -> None:
    assert starred_text(pattern, path) == text
