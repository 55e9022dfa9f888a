"""Numbers and names on the command line that no request could carry."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from pathlib import Path

import click
import pytest

from dbp.cli.main import COMMANDS
from dbp.cli.params.command import COMMANDS as PARAMS_COMMANDS
from tests.cli.setups import DBP, environment, run
from tests.deadline import DEADLINE

HUGE = "99999999999999999999"
INT64 = "9223372036854775807"
INT32 = "2147483647"
YEAR = "31622400"


def commands() -> list[click.Command]:
    """All that ask a service."""
    places = [(module, attribute) for module, attribute, _ in COMMANDS.values()]
    found: list[click.Command] = [
        getattr(importlib.import_module(f"dbp.cli.{module}"), attribute)
        for module, attribute in (*places, *PARAMS_COMMANDS.values())
    ]
    return [c for c in found if c.name != "train" and "service" in {p.name for p in c.params}]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_number_sent_to_a_service_has_a_greatest_value(
    command: click.Command,
) -> None:
    for parameter in command.params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            assert isinstance(parameter.type, click.IntRange | click.FloatRange)
            assert parameter.type.max is not None, parameter.name


@pytest.mark.parametrize(
    ("arguments", "named", "allowed"),
    [
        (["params", "x", "--version", HUGE], "--version", INT64),
        (["params", "x", "--step", HUGE], "--step", INT64),
        (["params", "x", "--max-staleness", HUGE], "--max-staleness", INT64),
        (["params", "pin", "x", HUGE], "VERSION", INT64),
        (["params", "unpin", "x", HUGE], "VERSION", INT64),
        (["params", "label", "x", "stable", HUGE], "VERSION", INT64),
        (["params", "diff", "x", HUGE], "'A'", INT64),
        (["params", "diff", "x", "1", f"step:{HUGE}"], "'[B]'", INT64),
        (["params", "versions", "x", "--limit", HUGE], "--limit", INT64),
        (["params", "x", "--wait", "nan"], "--wait", YEAR),
        (["params", "x", "--wait", "inf"], "--wait", YEAR),
        (["params", "x", "--wait", "1e+300"], "--wait", YEAR),
        (["params", "publish", "x", "--wait", "1e+300"], "--wait", YEAR),
        (["cancel", "x", "--grace", "nan"], "--grace", YEAR),
        (["jobs", "--limit", HUGE], "--limit", INT64),
        (["submit", "x.toml", "-n", HUGE], "--workers", INT32),
        (["logs", "x", "--attempt", HUGE], "--attempt", INT32),
        (["predict", "x", "x.npy", "--version", HUGE], "--version", INT64),
        (["export", "x", "-o", "x.npz", "--version", HUGE], "--version", INT64),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_refused_with_the_limit(
    arguments: list[str], named: str, allowed: str
) -> None:
    done = run(*arguments)

    assert done.returncode == 2, done
    assert named in done.stderr
    assert arguments[-1].removeprefix("step:") in done.stderr
    assert allowed in done.stderr


@pytest.mark.parametrize(
    "command", ["submit x.toml", "train x.toml", "spec check x.toml", "demo"]
)
def test_no_workers_at_all_are_refused(command: str) -> None:
    done = run(*command.split(), "--workers", "0")

    assert done.returncode == 2
    assert "'--workers'" in done.stderr
    assert "0 is not in the range" in done.stderr


@pytest.mark.parametrize("name", ["", "/"])
def test_a_file_without_a_name_cannot_be_written(service: str, ended: str, name: str) -> None:
    done = run("params", ended, "-o", name, service=service)

    assert done.returncode == 2, done
    assert repr(str(Path(name))) in done.stderr
    assert "names no file" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["show", "JOB"], ["params", "x", "--label", "JOB"], ["params", "x", "--tensor", "JOB"]],
    ids=" ".join,
)
def test_arguments_that_are_not_utf_8_are_named_with_their_predecessor(
    arguments: list[str],
) -> None:
    words = [b"\xff.x" if word == "JOB" else os.fsencode(word) for word in arguments]
    done = subprocess.run(
        [*DBP, *words, "--output", "json"], capture_output=True, text=True, timeout=DEADLINE,
        env=environment(),
    )  # fmt: skip

    assert done.returncode == 2, done
    message = json.loads(done.stderr)["error"]["message"]
    assert f"b'\\xff.x', after '{arguments[-2]}'" in message
    assert "UTF-8" in message
