"""Files that a name with wildcards matches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp import file_pattern
from dbp.data_access import DataAccess, using
from dbp.data_roots import DataRoots
from dbp.file_pattern import fixed_folder, is_pattern, matching_files, starred_texts
from tests.cost import cheap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "set [1]*"
    inner.mkdir()
    for name in ("b-2.npy", "b-10.npy", "a-1.npy", ".b-3.npy", "b-2.npz", "c[1].npy"):
        (inner / name).touch()
    return inner


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Two folders of parts, a hidden one, and a file among the folders."""
    for name in (
        "day-2/b.csv",
        "day-2/a.csv",
        "day-1/a.csv",
        ".day-0/a.csv",
        "day-1/deep/a.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "day-3").touch()
    return tmp_path


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


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*/*.csv", ["day-1/a.csv", "day-2/a.csv", "day-2/b.csv"]),
        ("day-*/a.csv", ["day-1/a.csv", "day-2/a.csv"]),
        ("day-[2-9]/?.csv", ["day-2/a.csv", "day-2/b.csv"]),
        ("*/*/*.csv", ["day-1/deep/a.csv"]),
        ("*/deep/*.csv", ["day-1/deep/a.csv"]),
        (".*/*.csv", [".day-0/a.csv"]),
        ("night-*/*.csv", []),
        ("day-*/c.csv", []),
    ],
)
def test_wildcards_in_folders_match_folders_of_one_level(
    days: Path, pattern: str, names: list[str]
) -> None:
    assert is_pattern(str(days / pattern))
    assert matching_files(str(days / pattern)) == [str(days / name) for name in names]


def test_only_folders_that_may_be_entered_are_read(days: Path) -> None:
    (days / "day-4").symlink_to(days / "day-1")
    access = DataAccess(DataRoots.of([days / "day-2", days / "day-1"]))
    with using(access):
        assert matching_files(f"{days}/day-2/*.csv") == [
            f"{days}/day-2/a.csv", f"{days}/day-2/b.csv",
        ]  # fmt: skip
        with pytest.raises(PermissionError, match="lies outside"):
            matching_files(f"{days}/*/*.csv")
    with using(DataAccess(DataRoots.of([days]))):
        assert matching_files(f"{days}/.*/*.csv") == []


def test_two_stars_and_too_many_folders_are_refused(
    days: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"\*\* is not supported: write one \* for each"):
        matching_files(f"{days}/**/*.csv")
    monkeypatch.setattr(file_pattern, "MAX_FOLDERS", 1)
    with pytest.raises(ValueError, match="2 folders match; at most 1"):
        matching_files(f"{days}/*/*.csv")


@pytest.mark.parametrize(
    ("limit", "most", "pattern", "message"),
    [
        ("MAX_FILES", 1, "1/*.csv", "more than 1 files match"),
        ("MAX_FILES", 3, "*/*.csv", "more than 3 files match"),  # 2 in each of 3 folders
        ("MAX_ENTRIES", 1, "1/a*.csv", "holds more than 1 files"),
    ],
)
def test_too_many_files_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    most: int,
    pattern: str,
    message: str,
) -> None:
    for name in ("1/a", "1/b", "2/a", "2/b", "3/a", "3/b"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setattr(file_pattern, limit, most)

    with pytest.raises(ValueError, match=message):
        matching_files(f"{tmp_path}/{pattern}")


def test_a_file_with_wildcards_in_its_name_is_meant_by_its_name(folder: Path) -> None:
    assert not is_pattern(str(folder / "c[1].npy"))
    assert is_pattern(str(folder / "c[2].npy"))
    assert is_pattern(str(folder / "x*"))
    assert not is_pattern("")


def test_the_folder_before_the_first_wildcard_is_fixed(folder: Path) -> None:
    assert fixed_folder(str(folder / "*.npy")) == folder
    assert fixed_folder(f"{folder.parent}/a/b*/c/*.npy") == folder.parent / "a"
    assert fixed_folder("*.npy") == Path()


@pytest.mark.parametrize(
    ("pattern", "path", "texts"),
    [
        ("/d/b-*.npy", "/d/b-10.npy", ("10",)),
        ("*", "x", ("x",)),
        ("/d/*/b-*.npy", "/d/day-1/b-10.npy", ("day-1", "10")),
        ("/d/*-*-z*.npy", "/d/a-b-z-c.npy", ("a", "b", "-c")),
        ("/d/*_*.in.npy", "/d/s_1_a.in.npy", ("s_1", "a")),
        ("/d/*-*.to.npy", "/d/s_1-a.to.npy", ("s_1", "a")),
        ("a*b*/c", "a1b2b3/c", ("1b2", "3")),
        ("a*a", "a", None),
        ("*/b", "a/b/b", None),
        ("b-??", "b-10", None),
        ("x", "x", None),
    ],
)
def test_the_text_that_each_star_matches(
    pattern: str, path: str, texts: tuple[str, ...] | None
) -> None:
    assert starred_texts(pattern, path) == texts


def test_many_stars_are_matched_in_little_time() -> None:
    pattern = f"*x{'*a' * 12}*by*.npy"
    with cheap():
        texts = starred_texts(pattern, f"x{'a' * 12}byx{'a' * 180}.npy")

    assert texts == ("",) * 14 + (f"x{'a' * 180}",)


@given(st.text("ab*", max_size=8), st.text("ab", min_size=1, max_size=12))
@settings(max_examples=500, deadline=None)
def test_an_earlier_star_matches_as_much_as_it_can(pattern: str, name: str) -> None:
    expected = re.fullmatch(pattern.replace("*", "(.*)"), name) if "*" in pattern else None

    texts = starred_texts(f"/d/{pattern}", f"/d/{name}")

    assert texts == (None if expected is None else expected.groups())
