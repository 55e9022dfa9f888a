"""The command itself: its imports, exit codes and error messages."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dbp.errors
from dbp import __version__
from dbp.cli.main import COMMANDS, EXIT_CODES, exit_code
from dbp.errors import DbpError
from tests.cli.setups import DBP, environment, output, run
from tests.deadline import DEADLINE

HEAVY = ("numpy", "grpc", "rich", "mpi4py", "google", "asyncio", "matplotlib", "plotext")

LOADED = """
import sys
from dbp.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
sys.stderr.write(" ".join(name for name in {heavy!r} if name in sys.modules))
"""


def loaded(arguments: list[str]) -> list[str]:
    """Which of the heavy packages a command loads."""
    code = LOADED.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(),
        timeout=DEADLINE,
    )  # fmt: skip
    assert done.stdout
    return done.stderr.split()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["completion", "bash"]], ids=" ".join
)
def test_commands_without_numerics_do_not_load_numpy(arguments: list[str]) -> None:
    assert loaded(arguments) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_loads_nothing_heavy(command: str) -> None:
    assert [name for name in loaded([command, "--help"]) if name != "asyncio"] == []


def test_the_package_loads_nothing_heavy() -> None:
    code = "import sys, dbp; print(*sorted(set(sys.modules) & {names!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(names=set(HEAVY))],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("\n", "")


def test_help_names_every_command_and_exit_code() -> None:
    text = output("--help")

    for name, (_, _, line) in COMMANDS.items():
        assert name in text
        assert line in text
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "75 ", "130 "):
        assert f"\n  {code}" in text or f"     {code}" in text or f"    {code}" in text


def test_it_says_its_version() -> None:
    assert output("--version") == f"dbp, version {__version__}\n"


def test_a_mistyped_command_gets_the_nearest() -> None:
    done = run("sumbit", "job.toml")

    assert done.returncode == 2
    assert "no such command 'sumbit', did you mean 'submit'?" in done.stderr


def test_a_mistyped_option_gets_the_nearest() -> None:
    done = run("submit", "job.toml", "--worker", "2")

    assert done.returncode == 2
    assert "--workers" in done.stderr


def test_every_error_has_its_exit_code() -> None:
    kinds = [kind for _, kind in inspect.getmembers(dbp.errors, inspect.isclass)]
    errors = {k for k in kinds if issubclass(k, DbpError) and k is not dbp.errors.InvalidSpec}

    codes = {kind.__name__: exit_code(kind("text")) for kind in errors}

    assert set(EXIT_CODES) <= errors
    assert codes == {
        "DbpError": 1, "ResourceExhausted": 1, "DataLoss": 1,
        "TrainingFailed": 1, "TooManyReaders": 1, "CorruptParameters": 1, "DiskFull": 1,
        "StateDamaged": 1, "StateGone": 1,
        "InvalidInput": 2, "InvalidArgument": 2, "InvalidType": 2, "WrongEventLoop": 2,
        "InvalidData": 2, "InvalidFile": 2, "RunDiskFull": 2, "Conflict": 2,
        "DataChanged": 2, "ClientForked": 2, "Unsupported": 2, "MissingDependency": 2,
        "UnknownMethod": 2,
        "Unavailable": 3, "ClientClosed": 3, "Draining": 3, "DeadlineExceeded": 3,
        "NotFound": 4, "WrongState": 4, "OutOfRange": 4, "AlreadyExists": 4,
        "JobNotFound": 4, "VersionNotFound": 4, "LabelNotFound": 4, "TensorNotFound": 4,
        "ModelNotFound": 4, "NotPublishedYet": 4, "StaleParameters": 4, "UseStream": 4,
        "VersionEvicted": 4, "Unauthenticated": 4, "PermissionDenied": 4,
    }  # fmt: skip


def test_errors_for_programs_name_path_message_and_line(tmp_path: Path) -> None:
    spec = tmp_path / "job.toml"
    spec.write_text('name = "x"\n[optimizer]\nkind = "adm"\n')

    done = run("spec", "check", str(spec), "--output", "json")

    assert done.returncode == 2
    error = json.loads(done.stderr)["error"]
    assert error["kind"] == "InvalidSpec"
    (kind,) = (v for v in error["violations"] if "did you mean 'adam'" in v["message"])
    assert kind["path"].startswith("optimizer")
    assert kind["line"] == 3
    (absent,) = (v for v in error["violations"] if v["path"] == "model")
    assert absent["line"] is None


def test_usage_errors_for_programs_are_json_too() -> None:
    done = run("jobs", "--limit", "none", "--output=json")

    assert done.returncode == 2
    assert "--limit" in json.loads(done.stderr)["error"]["message"]


def test_a_reader_that_has_enough_ends_it_in_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        done = subprocess.run(
            [*DBP, "components"],
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE,
        )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["components"], ["components", "--output", "json"]], ids=" ".join
)
def test_output_that_cannot_be_written_is_named(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*DBP, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE
        )

    message = "standard output cannot be written: No space left on device"
    assert done.returncode == 1
    if "json" in arguments:
        assert json.loads(done.stderr)["error"]["message"] == message
    else:
        assert done.stderr == f"error: {message}\n"


def test_an_interrupt_while_it_loads_ends_it_in_silence() -> None:
    code = (
        "import sys\n"
        "from dbp.__main__ import main\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_unexpected_error_is_one_line_without_dbp_debug() -> None:
    code = (
        "import dbp.cli.main as m, click\n"
        "def fail(*a, **k): raise ZeroDivisionError('of old')\n"
        "m.dbp.main = fail\n"
        "m.main(['jobs'])\n"
    )

    def unexpected(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE,
            env=environment(**more),
        )  # fmt: skip

    assert unexpected().returncode == 1
    assert unexpected().stderr == (
        "error: unexpected ZeroDivisionError: of old (DBP_DEBUG=1 shows where)\n"
    )
    assert "Traceback" in unexpected(DBP_DEBUG="1").stderr
