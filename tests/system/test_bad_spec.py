"""Bad fields and files of a spec: `dbp spec check` names the field, its line and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.cli.main import main
from tests.system.bad_inputs import BASE, FIELDS, FILES, Case, listing, run, text_of


def expected_place(case: Case) -> str:
    return f"job.toml:{case.line}: " if case.line else "job.toml: "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", FIELDS, ids=lambda case: case.name)
def test_a_bad_field_is_named_with_its_line(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "job.toml").write_text(text_of(case))

    told = run("spec", "check", "job.toml", capsys=capsys)

    assert told.startswith(f"error: {expected_place(case)}{case.told}")
    assert case.also in told
    assert listing(folder) == ["job.toml"]


def test_the_base_of_these_cases_is_good(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "job.toml").write_text(BASE)

    with pytest.raises(SystemExit) as end:
        main(["spec", "check", "job.toml", "--read"])

    assert end.value.code == 0
    assert "valid" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_a_bad_spec_file_is_named_with_the_place(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content, told = FILES[name]
    if content is None:
        (folder / file).mkdir()
    else:
        (folder / file).write_bytes(content)
    asked = "job.toml" if name == "no file" else file

    for command in (["spec", "check"], ["spec", "resolve"]):
        assert f"error: {told}" in run(*command, asked, capsys=capsys)
    assert listing(folder) == [file]
