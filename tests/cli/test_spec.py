"""``dbp spec`` and ``dbp components``, run as click commands."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from dbp.cli.spec import components, spec
from dbp.cli.train.command import train
from dbp.errors import InvalidInput, InvalidSpec
from dbp.job.spec.resolve import resolve

TEXT = """\
name = "digits"
data = { train = "digits", validation = { fraction = 0.1 } }
model.layers = [
  { kind = "dense", units = 10, activation = "relu" },
  { kind = "dense", units = 10 },
]
model.loss = "softmax_cross_entropy"
optimizer = "sgd"
train = { epochs = 2 }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "job.toml"
    path.write_text(TEXT)
    return str(path)


def run(command: object, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0
    return result.output


def test_check_shows_the_model_and_the_length_of_the_run(file: str) -> None:
    output = run(spec, "check", file, "--workers", "2", "--read")

    assert output.splitlines()[0] == f"{file}: valid"
    assert "1,293 training samples of shape 8 x 8" in output
    assert "760 of type float32" in output
    assert "22 steps, 11 an epoch, mini-batches of 128 over 2 workers" in output


def test_check_says_the_same_to_programs(file: str) -> None:
    summary = json.loads(run(spec, "check", file, "--output", "json"))

    assert [layer["kind"] for layer in summary["layers"]] == ["dense", "relu", "dense"]
    assert [layer["parameters"] for layer in summary["layers"]] == [650, 0, 110]
    assert summary["parameters"] == 760
    assert summary["total_steps"] == 22
    assert summary["spec_digest"] == resolve(tomllib.loads(TEXT)).digest


def test_a_resolved_spec_is_a_spec_and_resolves_to_itself(file: str, tmp_path: Path) -> None:
    resolved = run(spec, "resolve", file)
    again = tmp_path / "resolved.toml"
    again.write_text(resolved)

    assert run(spec, "resolve", str(again)) == resolved
    assert "batch_size" in resolved
    assert tomllib.loads(resolved) == json.loads(run(spec, "resolve", file, "--output", "json"))


def test_errors_are_raised_for_the_command_line_to_report(file: str) -> None:
    Path(file).write_text(TEXT.replace("units = 10,", "units = 0,"))

    for command in ("check", "resolve"):
        with pytest.raises(InvalidSpec, match=r"job\.toml:4: model\.layers\[0\]\.units"):
            run(spec, command, file)


@pytest.mark.parametrize("command", ["check", "train"])
def test_an_activation_that_the_loss_applies_itself_is_refused(
    file: str, command: str, tmp_path: Path
) -> None:
    text = TEXT.replace(
        '{ kind = "dense", units = 10 }', '{ kind = "dense", units = 10 }, "softmax"'
    )
    Path(file).write_text(text)
    arguments = (
        ["check", file] if command == "check" else [file, "--run", str(tmp_path / "run")]
    )

    with pytest.raises(InvalidSpec, match=r"job\.toml:5: model\.layers\[2\]: .*remove"):
        CliRunner().invoke(
            spec if command == "check" else train, arguments, catch_exceptions=False
        )

    assert not (tmp_path / "run").exists()


def test_notes_are_shown_to_people_and_to_programs(file: str, tmp_path: Path) -> None:
    text = TEXT.replace('"relu"', '"batch_norm"').replace("10 },\n]", '10 }, "tanh",\n]')
    Path(file).write_text(text.replace("epochs = 2", "epochs = 2, batch_size = 323"))
    words = "has 1 row, too few for a variance"

    assert words in run(spec, "check", file)
    notes = json.loads(run(spec, "check", file, "--output", "json"))["notes"]
    assert len(notes) == 2
    assert words in notes[1]
    result = CliRunner().invoke(
        train, [file, "--run", str(tmp_path / "run"), "--steps", "5"], catch_exceptions=False
    )
    assert result.stderr.count("note: ") == 2
    assert words in result.stderr


def test_components_lists_groups_kinds_and_options() -> None:
    everything = run(components)
    assert "\nlosses\n" in everything

    assert run(components, "optimizers").startswith("optimizers\n  adagrad ")
    one = run(components, "schedules")
    assert "\n  cosine " in one
    assert "peak                 highest learning rate (a number, > 0, required)" in one


def test_a_kind_of_two_groups_is_shown_in_both() -> None:
    found = json.loads(run(components, "constant", "--output", "json"))

    assert [info["group"] for info in found] == ["initializers", "schedules"]


def test_an_unknown_component_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match="no group or kind 'optimzers', did you mean 'opt"):
        run(components, "optimzers")
