"""What commands print for programs and people alike."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import pytest

from dbp.cli.screen.output import (
    echo,
    echo_json,
    figures_text,
    job_content,
    number_text,
    table,
    time_text,
    writing,
)
from dbp.errors import InvalidInput
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.state import Job, ProgressReport, State, Version
from tests.hostile_text import faults

PROGRESS = ProgressReport(7, 100, 1, math.nan, {"training_loss": math.inf}, 50.0, None, 3.0)
JOB = Job(
    "digits-1", {"name": "digits"}, "ab", 2, State.FAILED, 1.0,
    failure=Failure(
        FailureReason.NON_FINITE, "the loss is not finite", exit_code=1, log_tail=("a", "b"),
    ),
    latest_parameters=Version(1, 5, 1, "cd", 100, 2.0), progress=PROGRESS, failures=2,
    conditions=(Condition(ConditionKind.STALLED, "no step", 3.0),), checkpoint_step=5,
    report_time=4.0,
)  # fmt: skip


def strict(text: str) -> object:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> object:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def test_json_is_one_standard_line_even_of_a_run_gone_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_json(job_content(JOB))

    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    content = strict(printed)
    assert isinstance(content, dict)
    assert content["progress"]["loss"] is None
    assert content["progress"]["metrics"] == {"training_loss": None}
    assert content["failure"]["reason"] == "NON_FINITE"
    assert content["failure"]["log_tail"] == ["a", "b"]
    assert content["latest_parameters"]["version"] == 1
    assert content["previous_failure"] is None
    assert content["conditions"] == [{"kind": "STALLED", "message": "no step", "since": 3.0}]
    names = ("failures", "checkpoint_step", "report_time", "retry_time")
    assert [content[name] for name in names] == [2, 5, 4.0, None]


def test_text_beyond_ascii_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"line": "Größe"})

    assert capsys.readouterr().out == '{"line": "Größe"}\n'


def test_a_table_is_as_wide_as_it_must_be_without_trailing_blanks() -> None:
    rows: list[tuple[str, ...]] = [("NAME", "SHAPE"), ("0.weight", "2 x 3"), ("0.bias", "2")]

    assert table(rows).split("\n") == [
        "NAME      SHAPE",
        "0.weight  2 x 3",
        "0.bias    2",
    ]


def test_times_are_utc_and_may_be_absent() -> None:
    assert time_text(0.0) == "1970-01-01 00:00:00"
    assert time_text(None) == "-"


def test_the_figures_are_the_loss_and_the_validation_metric() -> None:
    metrics = {"validation_loss": 2.0, "validation_accuracy": 0.5, "training_loss": 1.0}

    assert figures_text(metrics) == "training_loss 1, validation_accuracy 0.5"
    assert figures_text({}) == ""


def test_a_file_that_cannot_be_written_is_bad_input_with_the_reason(tmp_path: Path) -> None:
    refused = pytest.raises(InvalidInput, match=r"file: cannot be written: No space left")
    with refused, writing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "my out").mkdir()
    path = tmp_path / "my outt" / "file"

    with pytest.raises(InvalidInput) as caught, writing(path):
        path.write_text("")

    assert str(caught.value) == (
        f"{path}: cannot be written: no such folder; make it with `mkdir -p '{path.parent}'`, "
        "did you mean 'my out'?"
    )


def test_files_that_a_command_reads_are_not_replaced(tmp_path: Path) -> None:
    rows, link = tmp_path / "rows.csv", tmp_path / "same.csv"
    rows.write_text("1,2")
    link.symlink_to(rows)

    for target in (rows, link):
        with pytest.raises(InvalidInput, match="is an input"), writing(target, rows):
            target.write_text("")

    assert rows.read_text() == "1,2"
    with writing(tmp_path / "out.csv", rows, tmp_path / "absent"):
        (tmp_path / "out.csv").write_text("3")


def test_the_own_files_of_a_run_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    parameters = tmp_path / "parameters.safetensors"

    with pytest.raises(InvalidInput, match="belongs to the run in"), writing(parameters):
        parameters.write_text("")

    assert not parameters.exists()
    with writing(tmp_path / "other.safetensors"):
        pass


def test_plain_output_shows_control_characters_instead_of_passing_them_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo("a\x1b[2Jb\x9b\u202e\tc\nd\x07")
    echo("\x1b]0;title\x07e", err=True)

    assert capsys.readouterr() == ("ab\\x9b\\u202e\tc\nd\\x07\n", "e\n")


def test_json_output_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b[2J\x7f\x9b2J\u202e\u2028"

    echo_json({"host": text})

    line = capsys.readouterr().out
    assert not faults(line, "\n")
    assert json.loads(line) == {"host": text}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345678, "0.1235"), (999.96, "1000"), (12_345.6, "12,346"), (-1e6, "-1,000,000"),
        (1e20, "1e+20"), (0.0, "0"), (math.nan, "-"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_a_number_is_short(value: float, text: str) -> None:
    assert number_text(value) == text
