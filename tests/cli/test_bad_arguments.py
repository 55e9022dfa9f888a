"""Bad arguments and environments by rule: exit code 2, the option named, soon, no traceback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import click
import pytest

from dbp.cli.arguments.quantities import DURATION, SIZE
from dbp.cli.main import COMMANDS, dbp, main
from tests.cost import SECONDS, cheap

LONG = "x" * 10_000  # click shows it in full


class Case(NamedTuple):
    """A command line and variables, and what the message names."""

    arguments: list[str]
    environment: dict[str, str]
    named: str


def cases() -> list[Case]:
    """Return every option of every command with values that its type refuses."""
    found: list[Case] = []
    context = click.Context(dbp)
    for name in COMMANDS:
        command = dbp.get_command(context, name)
        assert command is not None
        found += _of_command([name], command)
    for text in ("nowhere", "", "-x", "1:2:3", "host:99999", "host:-1", "unix:", LONG):
        found.append(Case(["jobs"], {"DBP_SERVICE": text or " "}, "SERVICE"))
    return found


def _of_command(path: list[str], command: click.Command) -> Iterator[Case]:
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _of_command([*path, name], below)
        if path != ["params"]:  # its default command takes any name
            yield Case([*path, "no-such-command"], {}, "no-such-command")
        return
    yield Case([*path, "--no-such-option"], {}, "--no-such-option")
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.is_flag:
            continue
        option = max(parameter.opts, key=len)
        for value in _bad_values(parameter.type):
            yield Case([*path, f"{option}={value}"], {}, option)
            if path == ["serve"]:
                variable = f"DBP_{option.removeprefix('--').replace('-', '_').upper()}"
                yield Case(["serve", "--print-config"], {variable: value}, variable)


def _bad_values(kind: click.ParamType) -> list[str]:
    if isinstance(kind, click.IntRange):
        bounds = [str(kind.min - 1)] if kind.min is not None else []
        bounds += [str(kind.max + 1)] if kind.max is not None else []
        return ["x", "1e400", "1.5", "\u0661\u0662x", LONG, *bounds]
    if isinstance(kind, click.Choice):
        return ["no such choice", LONG]
    if kind in (DURATION, SIZE):
        return ["x", "-1s", "0s", "nan", "1e400GB", "1 parsec", "\x1b[2J"]
    return []


CASES = cases()


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 60
    assert sum(bool(case.environment) for case in CASES) >= 20


def test_each_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: list[str] = []
    with cheap(seconds=120):
        for case in CASES:
            begin = time.process_time()
            with monkeypatch.context() as patched:
                for name, value in case.environment.items():
                    patched.setenv(name, value)
                with pytest.raises(SystemExit) as ended:
                    main(case.arguments)
            shown = capsys.readouterr()
            problems = [
                f"exit {ended.value.code}" * (ended.value.code != 2),
                "not named" * (case.named not in shown.err),
                "traceback" * ("Traceback" in shown.err),
                "control character" * ("\x1b" in shown.err),
                "long" * (len(shown.err) > len(LONG) + 1_000),
                "slow" * (time.process_time() - begin > SECONDS),
            ]
            if any(problems):
                faults = ", ".join(filter(None, problems))
                wrong.append(f"{str(case)[:120]}: {faults}: {shown.err[:200]}")

    assert not wrong, "\n".join(wrong)
