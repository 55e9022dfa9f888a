"""Bad data files: `dbp spec check` names the field and the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.bad_inputs import DATA, DataCase, listing, run, write_data_case


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", DATA, ids=lambda case: case.name)
def test_bad_data_is_named_with_its_field_and_file(
    case: DataCase, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data_case(case, folder)

    told = run("spec", "check", "job.toml", "--read", "--workers", "2", capsys=capsys)

    for fact in case.told:
        assert fact in told
    assert listing(folder) == sorted(["job.toml", *case.files])
