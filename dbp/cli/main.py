"""The `dbp` command: loads subcommands when they are called, maps errors to exit codes."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final, NoReturn, final

import click

from dbp import __version__
from dbp.errors import (
    AlreadyExists,
    Conflict,
    DbpError,
    InvalidInput,
    InvalidSpec,
    NotFound,
    OutOfRange,
    PermissionDenied,
    StateGone,
    Unauthenticated,
    Unavailable,
    Unsupported,
    WrongState,
)
from dbp.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, UNREACHABLE, WRONG_STATE
from dbp.json_value import JsonValue
from dbp.option_names import speak_of_flags
from dbp.printable import json_escaped, printable_output

# Name -> module, attribute, one line for `dbp --help`. In the order of use.
COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "demo": ("demo", "demo", "See everything work, in under a minute."),
    "check": ("check", "check", "Test a job's data, gradients and bits before a long run."),
    "train": ("train.command", "train", "Train a job here, in one process or several."),
    "serve": ("serve", "serve", "Run the control service."),
    "backup": ("backup", "backup", "Copy a service's state folder, also while it runs."),
    "restore": ("backup", "restore", "Make a state folder from a backup."),
    "admin": ("admin", "admin", "Drain a service, or let it start jobs again."),
    "health": ("health", "health", "Ask a service whether it serves."),
    "token": ("token", "token", "Make, list and revoke tokens of a service."),
    "submit": ("jobs", "submit", "Submit a job to a service."),
    "jobs": ("jobs", "jobs", "List the jobs of a service."),
    "top": ("top", "top", "Show the jobs of a service in a live table."),
    "show": ("jobs", "show", "Show the state of a job."),
    "watch": ("jobs", "watch", "Follow a job until it has ended."),
    "logs": ("jobs", "logs", "Print a job's log."),
    "metrics": ("metrics.command", "metrics", "Show or write the metrics history of jobs."),
    "cancel": ("jobs", "cancel", "Ask a job to stop."),
    "pause": ("lifecycle", "pause", "Stop a job at a checkpoint, to resume it later."),
    "resume": ("lifecycle", "resume", "Continue a paused job."),
    "retry": ("lifecycle", "retry", "Continue a job that failed or was cancelled."),
    "delete": ("lifecycle", "delete", "Delete an ended job and all its files."),
    "params": ("params.command", "params", "Show or fetch a job's parameters."),
    "predict": ("predict.command", "predict", "Apply trained parameters to inputs."),
    "evaluate": ("predict.command", "evaluate", "Measure trained parameters on a data set."),
    "plot": ("plot", "plot", "Plot the metrics of runs and jobs, here or as a picture."),
    "compare": ("compare.command", "compare", "Show how runs and jobs differ."),
    "export": ("export", "export", "Write a trained model for other programs."),
    "verify": ("verify", "verify", "Verify the bits of a run, or a job's versions."),
    "spec": ("spec", "spec", "Validate a job file, show its defaults or its schema."),
    "components": ("spec", "components", "List layers, losses, optimizers, readers, ..."),
    "bench": ("bench", "bench", "Measure a training step on this machine."),
    "doctor": ("doctor.command", "doctor", "Check this machine for training over MPI."),
    "completion": ("completion", "completion", "Print a shell's completion script."),
}

# The most specific class counts.
EXIT_CODES: Final[Mapping[type[DbpError], int]] = {
    DbpError: FAILED,
    InvalidInput: BAD_INPUT,
    Conflict: BAD_INPUT,
    Unsupported: BAD_INPUT,
    Unavailable: UNREACHABLE,
    StateGone: FAILED,
    NotFound: WRONG_STATE,
    WrongState: WRONG_STATE,
    OutOfRange: WRONG_STATE,
    AlreadyExists: WRONG_STATE,
    Unauthenticated: WRONG_STATE,
    PermissionDenied: WRONG_STATE,
}

EPILOG: Final = """\b
Start here:
  dbp demo                                      all of it, in under a minute
  dbp train job.toml -n 2                       training without a service
  dbp serve                                     the service, in one terminal,
  dbp submit job.toml --workers 2 --watch       and a job, from another
  dbp params JOB -o weights.safetensors         its parameters, at any time

\b
Exit codes:
  0    success                       4    not found, or refused
  1    the run or the job failed     75   stopped on request before its end
  2    bad input; nothing started    130  interrupted (Ctrl-C)
  3    no service at the address     74   trained, but not written (full disk)
"""


@final
class _Commands(click.Group):
    """Subcommands by name; a module is imported when its command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"dbp.cli.{module}"), attribute
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from dbp.errors import nearest

            ctx.fail(f"no such command {args[0]!r}{nearest(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output has closed it
            _drop_output()
            ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.command(cls=_Commands, epilog=EPILOG)
@click.version_option(__version__, prog_name="dbp")
def dbp() -> None:
    """Distributed backpropagation: train over MPI, with live parameters over gRPC."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    speak_of_flags()
    try:
        _check_text(given)
        code = dbp.main(given, prog_name="dbp", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Exception as error:
        code = _tell(_explained(error), as_json=_wants_json(given))
        if isinstance(error, StateGone):
            # Without the end of the interpreter, which would close the deleted database:
            # SQLite would delete the log of another one that is at its path now.
            sys.stdout.flush()
            os._exit(code)
        sys.exit(code)


def _check_text(arguments: list[str]) -> None:
    """Raise InvalidInput for arguments with bytes that are not text."""
    for before, argument in itertools.pairwise(["dbp", *arguments]):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InvalidInput(
                f"{os.fsencode(argument)!r}, after {before!r} on the command line: is not "
                "UTF-8; names and files are given in UTF-8"
            ) from None


def _explained(error: Exception) -> Exception:
    """Return the message of an error; an error in writing to stdout is named as such."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    if isinstance(error, OSError) and click.echo.__code__ in {f.f_code for f in frames}:
        _drop_output()
        return DbpError(f"standard output cannot be written: {error.strerror}")
    return error


def _drop_output() -> None:
    """Discard the rest of the output, which Python would write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: DbpError) -> int:
    """Return the exit code of an error: that of its nearest class in the table."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _public(error: Exception) -> type:
    """Return the class of an error; of those of dbp the nearest one that users can name."""
    named = (kind for kind in type(error).__mro__ if kind.__module__ == DbpError.__module__)
    return next(named, type(error))


def _tell(error: Exception, *, as_json: bool) -> int:
    """Print the error to stderr; return the exit code."""
    content: dict[str, JsonValue] = {"kind": _public(error).__name__, "message": str(error)}
    if isinstance(error, click.ClickException):
        content["message"], code = error.format_message(), error.exit_code
        if not as_json:
            error.show()  # with the command's usage
            return code
    elif isinstance(error, DbpError):
        code = exit_code(error)
        if isinstance(error, InvalidSpec):
            content["violations"] = [
                {"path": v.path, "message": v.message, "line": v.line or None}
                for v in error.violations
            ]
    elif os.environ.get("DBP_DEBUG"):
        raise error
    else:
        code = 1
        kind = content["kind"]
        content["message"] = f"unexpected {kind}: {error} (DBP_DEBUG=1 shows where)"
    text = json_escaped(json.dumps({"error": content}, ensure_ascii=False))
    plain = printable_output(f"error: {content['message']}")
    click.echo(text if as_json else plain, err=True)
    return code


def _wants_json(arguments: list[str]) -> bool:
    follows = itertools.pairwise(arguments)
    return "--output=json" in arguments or ("--output", "json") in follows
