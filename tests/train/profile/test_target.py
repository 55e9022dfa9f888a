"""The folder of a profile: files of others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

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
