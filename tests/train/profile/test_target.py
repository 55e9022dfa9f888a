"""The folder of a profile: files of others stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbp.cli.train.profiling import check_profile
from dbp.errors import InvalidInput
from dbp.train.profile.target import BEGINNING, check_target


@pytest.mark.parametrize("name", ["summary.json", "rank-0.json"])
def test_files_that_are_no_profiles_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")

    with pytest.raises(InvalidInput, match=f"{name} in it is no profile's"):
        check_target(tmp_path)


def test_a_profile_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "rank-0.json").write_bytes(BEGINNING + b"[]}")
    (tmp_path / "summary.json").write_text("{}")

    check_target(tmp_path)


def test_a_file_that_is_no_trace_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")

    with pytest.raises(InvalidInput, match="exists and is no trace"):
        check_target(tmp_path / "mine.json")


@pytest.mark.parametrize("name", ["notes/sub", "notes/sub/trace.json", "notes/trace.json"])
def test_a_path_below_a_file_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes").write_text("mine")

    with pytest.raises(InvalidInput, match="notes is a file"):
        check_target(tmp_path / name)


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # root may all

    for path in (tmp_path, tmp_path / "new" / "inner", tmp_path / "trace.json"):
        with pytest.raises(InvalidInput, match="cannot be written to"):
            check_target(path)


def test_a_name_that_is_too_long_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"profile .*: File name too long"):
        check_profile(str(tmp_path / ("n" * 300)), Path("job.toml"), None)
