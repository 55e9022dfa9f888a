"""Settings of `dbp serve`: flags, variables and a file, in this order."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dbp.cli.arguments.settings import Setting
from dbp.cli.serve import serve
from dbp.errors import InvalidInput
from dbp.rpc import credentials, profile

SETTINGS = [each for each in serve.params if isinstance(each, Setting)]


def printed(*arguments: str, **variables: str) -> str:
    """What --print-config prints; the errors are raised."""
    done = CliRunner().invoke(
        serve, [*arguments, "--print-config"], env=variables, catch_exceptions=False,
        standalone_mode=False,
    )  # fmt: skip
    return done.stdout


def shown(*arguments: str, **variables: str) -> dict[str, tuple[Any, str]]:
    """Each setting with its value and its source."""
    text = printed(*arguments, **variables)
    values = tomllib.loads(text)
    found = re.findall(r"^(?:# )?(\w+) = .*?  # (.*)$", text, re.MULTILINE)
    return {key: (values.get(key), source) for key, source in found}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dbp.toml"
    path.write_text('slots = 3\nkeep_ended = "30d"\n\ndata_root = ["data"]\nport = 5000\n')
    (tmp_path / "data").mkdir()
    return path


def test_a_flag_counts_before_a_variable_and_a_variable_before_the_file(file: Path) -> None:
    config = f"--config={file}"
    assert shown()["slots"] == (None, "default")
    assert shown(config)["slots"] == (3, f"{file}:1")
    assert shown(config, DBP_SLOTS="2")["slots"] == (2, "$DBP_SLOTS")
    assert shown(config, "--slots", "1", DBP_SLOTS="2")["slots"] == (1, "--slots")
    assert shown(DBP_CONFIG=str(file))["keep_ended"] == ("2592000s", f"{file}:2")
    assert shown(config)["log_level"] == ("warning", "default")


def test_no_variable_of_the_service_means_something_else_to_clients() -> None:
    of_clients = {
        profile.CONFIG_VARIABLE, credentials.TOKEN_VARIABLE, credentials.CA_VARIABLE,
        credentials.CERT_VARIABLE, credentials.KEY_VARIABLE, credentials.USER_VARIABLE,
        "DBP_SERVICE",
    }  # fmt: skip
    assert of_clients.isdisjoint(each.envvar for each in serve.params)


def test_paths_in_the_file_are_relative_to_its_folder(file: Path) -> None:
    assert shown(f"--config={file}")["data_root"] == ([str(file.parent / "data")], f"{file}:4")


def test_the_printed_settings_are_a_file_with_the_same_settings(
    file: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.toml"
    text = printed(f"--config={file}", "--max-disk=20GB", "--pass-env=PATH")
    again.write_text(text)

    before, after = tomllib.loads(text), tomllib.loads(printed(f"--config={again}"))
    assert before == after
    assert before["max_disk"] == "20000000000B"
    assert before["state"] == after["state"] != ""


def test_the_example_names_settings_that_exist(tmp_path: Path) -> None:
    example = (Path(__file__).resolve().parents[3] / "deploy" / "dbp.toml").read_text()
    path = tmp_path / "dbp.toml"
    path.write_text(re.sub(r"^# (?=\w+ = )", "", example, flags=re.MULTILINE))
    for name in ("/srv/data", "tls/server.pem", "tls/server.key"):
        text = path.read_text().replace(name, "." if "data" in name else "dbp.toml")
        path.write_text(text)

    found = shown(f"--config={path}")

    assert found["pass_env"][0] == ["PYTHONPATH"]
    assert len([key for key, (_, source) in found.items() if source != "default"]) >= 11


def test_every_option_is_a_flag_a_variable_and_a_key() -> None:
    assert {each.name for each in serve.params} - {each.name for each in SETTINGS} == {
        "config", "print_config",
    }  # fmt: skip
    once = [each.flag for each in SETTINGS if each.once]
    assert once == ["--recover"]
    keys = shown().keys()
    for each in SETTINGS:
        if not each.once:
            assert each.envvar == f"DBP_{each.key.upper()}"
            assert each.key in keys
    help_text = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())
    for each in SETTINGS:
        assert each.once or f"[env var: {each.envvar}" in help_text.replace("; ", " [env var: ")


def test_the_help_shows_the_path_of_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBP_STATE", "/srv/dbp")
    assert "/srv/dbp" in CliRunner().invoke(serve, ["--help"]).output


REFUSED = {
    'slotz = 3\nport = "x"': (
        "2 problems", "line 1: slotz: no such setting, did you mean 'slots'?",
        "line 2: port: must be a whole number, got 'x'",
    ),
    "\n\nslots = 0": (":3: slots: 0 is not in the range",),
    "port = true": (":1: port: must be a whole number, got True",),
    "open_inference = 1": (":1: open_inference: must be true or false, got 1",),
    "keep_ended = 30": (":1: keep_ended: must be a text, got 30",),
    'keep_ended = "30x"': (":1: keep_ended: '30x': expected a number with a unit",),
    'data_root = "data"': (":1: data_root: must be a list, got 'data'",),
    'data_root = ["nowhere"]': (":1: data_root: Directory", "nowhere' does not exist"),
    'log_level = "loud"': (":1: log_level: 'loud' is not one of 'debug'",),
    "recover = true": (":1: recover: no such setting",),
    "slots =": (":1: Invalid value at the end of the file",),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dbp.toml"
    path.write_text(text)

    with pytest.raises(InvalidInput) as error:
        printed(f"--config={path}")

    assert str(path) in str(error.value)
    for part in REFUSED[text]:
        assert part in str(error.value)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        printed(f"--config={tmp_path / 'a.toml'}")
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        printed(f"--config={tmp_path / 'b.toml'}")
