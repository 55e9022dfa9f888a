"""Spec files: an error names the file, the line and the column."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import InvalidFile, InvalidInput, InvalidSpec
from dbp.job.spec.check import check
from dbp.job.spec.load import MAX_FILE_BYTES, located, parse_file, resolve_file

GOOD = """\
name = "files"

[data]
train = { kind = "npy", inputs = "x.npy", targets = "${LABELS}/y.npy" }

[model]
layers = [
  { kind = "dense", units = 3 },
]
loss = "softmax_cross_entropy"

[optimizer]
kind = "sgd"

[train]
epochs = 1
"""


@pytest.fixture
def spec_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELS", "labels")
    path = tmp_path / "job.toml"
    path.write_text(GOOD)
    return path


def test_file_options_are_expanded_and_made_absolute(spec_file: Path) -> None:
    spec = resolve_file(spec_file).spec

    assert spec.data.train.options["inputs"] == str(spec_file.parent / "x.npy")
    assert spec.data.train.options["targets"] == str(spec_file.parent / "labels" / "y.npy")


def test_files_are_relative_to_the_spec_not_to_the_working_folder(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spec_file.parent / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)

    spec = resolve_file(os.path.relpath(spec_file)).spec

    inputs = str(spec.data.train.options["inputs"])
    assert Path(inputs).is_absolute()
    assert Path(inputs).resolve() == spec_file.parent.resolve() / "x.npy"


def test_an_absolute_variable_replaces_the_folder(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELS", "/data")

    assert resolve_file(spec_file).spec.data.train.options["targets"] == "/data/y.npy"


def test_json_and_toml_give_the_same_spec(spec_file: Path) -> None:
    from tomllib import loads

    as_json = spec_file.with_suffix(".json")
    as_json.write_text(json.dumps(loads(GOOD)))

    assert parse_file(as_json) == parse_file(spec_file)


def test_only_file_options_are_expanded(spec_file: Path) -> None:
    spec_file.write_text(GOOD.replace('"files"', '"${LABELS}"'))

    assert check(parse_file(spec_file)).name == "${LABELS}"


def test_an_unset_variable_is_named_beside_all_other_violations(spec_file: Path) -> None:
    text = GOOD.replace("LABELS", "NOT_SET_ANYWHERE").replace("epochs = 1", "epochs = 0")
    spec_file.write_text(text)

    with pytest.raises(InvalidSpec) as caught:
        parse_file(spec_file)

    assert str(caught.value) == (
        f"{spec_file}: 2 problems\n"
        "  line 4: data.train.targets: the environment variable 'NOT_SET_ANYWHERE' is not set, "
        "in '${NOT_SET_ANYWHERE}/y.npy'; set it: export NOT_SET_ANYWHERE=VALUE\n"
        "  line 16: train.epochs: must be >= 1 and <= 1000000000, got 0"
    )


@pytest.mark.parametrize(
    ("written", "message"),
    [("", "must name a file, got an empty string"), ("~/y.npy", "write ${HOME} instead")],
)
def test_file_names_that_mislead_are_refused(
    spec_file: Path, written: str, message: str
) -> None:
    spec_file.write_text(GOOD.replace("x.npy", written))

    with pytest.raises(InvalidSpec) as caught:
        parse_file(spec_file)

    assert str(caught.value).startswith(f"{spec_file}:4: data.train.inputs: ")
    assert message in str(caught.value)


def test_one_violation_is_reported_with_file_and_line(spec_file: Path) -> None:
    spec_file.write_text(GOOD.replace("units = 3", "units = 0"))

    with pytest.raises(InvalidSpec) as caught, located(spec_file):
        resolve_file(spec_file)

    assert str(caught.value) == (f"{spec_file}:8: model.layers[0].units: must be >= 1, got 0")


SYNTAX = [
    ("a.toml", 'name = "x"\nseed = = 3\n', ":2:8: Invalid value, got '='; allowed: a string"),
    ("a.toml", "kind = sgd # x\n", ":1:8: Invalid value, got 'sgd'; allowed: a string"),
    ("a.toml", "a =\nb = 1\n", ":1:4: Invalid value, got the end of the line; allowed: "),
    ("a.toml", "a = 1,000\n", ":1:6: Expected newline or end of document after a statement"),
    ("a.toml", "[a\nb = 1\n", ":1:3: Expected ']' at the end of a table declaration"),
    ("a.toml", "a = [1 2]\n", ":1:8: Unclosed array, got '2'; allowed: a comma or ]"),
    ("a.toml", 'a = "x\nb = 1\n', ":1:7: a string must end on its line, with the quote"),
    ("a.toml", 'name = "x"\nname = "y"\n', ":2:11: duplicate key or table (Cannot overwrite"),
    ("a.toml", "[data]\n[data]\n", ":2:6: duplicate key or table (Cannot declare"),
    ("a.toml", "a = {x = 1, x = 2}\n", ":1:18: duplicate key"),
    ("a.toml", "a = { x = 1,\n  y = 2 }", ":1:13: an inline table { ... } must stand on one"),
    ("a.toml", "a = { x = 1 # one\n}", ":1:13: an inline table { ... } must stand on one"),
    ("a.toml", "a = { x = 1, @ }", ":1:14: Invalid initial character for a key part, got "),
    ("a.toml", 'name = "x', ":1: "),
    ("a.toml", "name = [1,\n", ":2: "),
    ("a.toml", f"a = {'[' * 5000}", ": tables and lists are nested too deep"),
    ("a.toml", f"a = {'9' * 5000}", ": holds a number of thousands of digits; allowed: "),
    ("a.toml", "a = 2023-13-45", ":1:"),
    ("a.json", '{"name": "x",}', ":1:14: "),
    ("a.json", '{"a": }', ":1:7: Expecting value, got '}'"),
    ("a.json", '{\n"name": "x",\n"name": "y"}', ": duplicate key 'name'"),
    ("a.json", '{"data": {"x": 1, "x": 2}}', ": duplicate key 'x'"),
    ("a.json", '{"name" "x"}', ":1:9: Expecting ':' delimiter, got "),
    ("a.json", "[" * 200_000, ": tables and lists are nested too deep"),
    ("a.json", f'{{"seed": {"9" * 5000}}}', ": holds a number of thousands of digits; "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), SYNTAX)
def test_syntax_errors_name_the_place(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(InvalidFile) as caught:
        parse_file(path)

    assert str(caught.value).startswith(f"{path}{message}")


def test_a_missing_file_proposes_its_neighbor(spec_file: Path) -> None:
    with pytest.raises(InvalidFile, match=r"no such file, did you mean 'job\.toml'\?"):
        parse_file(spec_file.with_name("jbo.toml"))


def test_a_broken_link_is_reported_with_its_target(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.symlink_to("gone.toml")

    with pytest.raises(InvalidFile) as caught:
        parse_file(path)

    assert str(caught.value) == (
        f"{path}: no such file: it is a symbolic link to gone.toml, which does not exist"
    )


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no such file; there is no folder"):
        parse_file(tmp_path / "none" / "job.toml")


def test_unreadable_spec_files_are_refused(tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes | None, str]] = {
        "folder.toml": (None, "is a folder"),
        "empty.toml": (b" \n\t\n", "is empty"),
        "big.toml": (b"#" * (MAX_FILE_BYTES + 1), "too large for a spec: over 1048576 bytes"),
        "latin.toml": ("# ok\nname = 'é'".encode("latin-1"), ":2: not UTF-8 text (byte 13)"),
        "job.yaml": (b"name: x", "a spec is a .toml or a .json file, got .yaml"),
        "job": (b"name: x", "got no suffix"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)

        with pytest.raises(InvalidFile) as caught:
            parse_file(path)

        assert str(caught.value).startswith(str(path))
        assert message in str(caught.value)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)

    with pytest.raises(InvalidFile, match="is no regular file"):
        parse_file(path)


def test_a_name_with_nul_is_refused() -> None:
    with pytest.raises(InvalidFile, match=r"a\\x00b\.toml: cannot be read"):
        parse_file("a\0b.toml")


def test_a_file_of_exactly_the_limit_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    text = GOOD.replace("${LABELS}/", "")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"#" * (MAX_FILE_BYTES - len(text) - 3))

    assert resolve_file(path).spec.name == "files"


def test_violations_get_the_name_of_their_source() -> None:
    with pytest.raises(InvalidSpec, match=r"wire: .*\n  name: is required"), located("wire"):
        check({})


@given(
    cut=st.integers(0, len(GOOD)),
    noise=st.text(st.sampled_from("{}[]=\"\n,.#'\\x0-9\x1b\ud800é"), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_no_text_raises_anything_but_invalid_input(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes((GOOD[:cut] + noise + GOOD[cut:]).encode("utf-8", "surrogatepass"))

    try:
        with located(path):
            resolve_file(path)
    except InvalidInput as error:
        assert str(path) in str(error)  # noqa: PT017 - one of two good ends
