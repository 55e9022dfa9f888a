"""Options that are flags, environment variables and keys of a TOML file at once.

The options of a command are the one table: ``--keep-ended`` is also ``$DBP_KEEP_ENDED`` and the
key ``keep_ended``. A flag counts before a variable, and a variable before the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import click
from click.core import ParameterSource

from dbp.cli.arguments.quantities import Quantity
from dbp.errors import InvalidInput, InvalidSpec, Violation, alternatives
from dbp.json_value import JsonValue

PREFIX: Final = "DBP_"
_FILE: Final = "dbp.settings.file"  # of the context: the path of the file
_OWN: Final = ("config", "print_config")
_KINDS: Final = {bool: "true or false", int: "a whole number", str: "a text", list: "a list"}


@final
class Setting(click.Option):
    """An option that a variable and the file set, too.

    ``once``: for one start only, so neither a variable nor the file sets it. ``shown``: returns
    the default for ``--help``, where it depends on the user or the machine.
    """

    def __init__(
        self,
        *arguments: Any,
        once: bool = False,
        shown: Callable[[], str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.once, self._shown = once, shown
        long = next(name for name in self.opts if name.startswith("--"))
        self.flag, self.key = long, long.removeprefix("--").replace("-", "_")
        if not once:
            self.envvar = PREFIX + self.key.upper()
            self.show_envvar = True

    def default_path(self) -> str | None:
        """Return the default of a path that depends on the user; None for other options."""
        single = isinstance(self.type, click.Path) and not self.multiple
        return self._shown() if single and self._shown else None

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or self._shown is None:
            return record
        return record[0], f"{record[1]}  [default: {self._shown()}]"


def setting(*names: str, **options: Any) -> Callable[[Any], Any]:
    """Add a ``Setting`` to a command; arguments as for ``click.option``."""
    return click.option(*names, cls=Setting, **options)


def config_options(command: Any) -> Any:
    """Add ``--config`` and ``--print-config`` to a command."""
    command = click.option(
        "--print-config", is_flag=True, is_eager=False, expose_value=False,
        callback=_print_later, help="Print all settings as a file for --config, and where each "
        "one comes from; start nothing.",
    )(command)  # fmt: skip
    return click.option(
        "--config", type=click.Path(dir_okay=False, path_type=Path), is_eager=True,
        expose_value=False, callback=_read_file, envvar="DBP_CONFIG", show_envvar=True,
        metavar="FILE", help="TOML file of settings: the long options with _ for -, such as "
        "keep_ended = \"30d\". A flag counts before its variable, a variable before the file. "
        "Paths are relative to the file's folder.",
    )(command)  # fmt: skip


@final
class ConfiguredCommand(click.Command):
    """A command with ``Setting`` options and ``config_options``."""

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.meta.get(_OWN[1]):
            click.echo(_settings_text(ctx), nl=False)
            return None
        return super().invoke(ctx)


def _settings(ctx: click.Context) -> list[Setting]:
    return [each for each in ctx.command.params if isinstance(each, Setting) and not each.once]


def _print_later(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
    ctx.meta[_OWN[1]] = given


def _read_file(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Make the values of the file the defaults of the options. InvalidInput, InvalidSpec."""
    if path is None:
        return
    from dbp.job.spec.load import parse_toml
    from dbp.job.spec.locate import with_lines

    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise InvalidInput(f"--config {path}: {reason}") from error
    document = parse_toml(text, str(path))
    settings = {each.key: each for each in _settings(ctx)}
    violations, found = [], {}
    for key, value in document.items():
        try:
            if key not in settings:
                raise InvalidInput(
                    "no such setting" + alternatives(key, sorted(settings), "known")
                )
            found[settings[key].name] = _checked(ctx, settings[key], value, path.parent)
        except (InvalidInput, click.UsageError) as error:
            message = getattr(error, "message", None) or str(error)
            violations.append(Violation(key, message))
    if violations:
        raise InvalidSpec(with_lines(violations, text), str(path))
    ctx.default_map = found
    ctx.meta[_FILE] = (str(path), text)


def _checked(ctx: click.Context, option: Setting, value: object, folder: Path) -> object:
    """Return a value of the file as its option takes it. InvalidInput, click.UsageError."""
    values = value if option.multiple and isinstance(value, list) else [value]
    kind: type = (
        bool if option.is_flag else int if isinstance(option.type, click.IntRange) else str
    )
    if option.multiple and not isinstance(value, list):
        raise InvalidInput(f"must be {_KINDS[list]}, got {value!r}")
    for item in values:
        if type(item) is not kind:
            raise InvalidInput(f"must be {_KINDS[kind]}, got {item!r}")
    if isinstance(option.type, click.Path):
        values = [str(folder / str(item)) for item in values]
    for item in values:
        option.type.convert(item, option, ctx)
    return values if option.multiple else values[0]


def _settings_text(ctx: click.Context) -> str:
    """Return all settings as TOML, each with its source in a comment."""
    from dbp.job.spec.locate import with_lines
    from dbp.job.spec.toml_text import toml_text

    path, text = ctx.meta.get(_FILE, ("", ""))
    found = with_lines([Violation(each.key, "") for each in _settings(ctx)], text)
    lines = {violation.path: violation.line for violation in found}
    rows = []
    for option in _settings(ctx):
        value = _written(option, ctx.params[option.name or ""])
        row = toml_text({option.key: value}).rstrip("\n") if value is not None else ""
        source = ctx.get_parameter_source(option.name or "")
        origin = {
            ParameterSource.COMMANDLINE: option.flag,
            ParameterSource.ENVIRONMENT: f"${option.envvar}",
            ParameterSource.DEFAULT_MAP: f"{path}:{lines[option.key]}",
        }.get(source or ParameterSource.DEFAULT, "default")
        rows.append((row or f"# {option.key} =", origin))
    width = max(len(row) for row, _ in rows)
    return "".join(f"{row:<{width}}  # {origin}\n" for row, origin in rows)


def _written(option: Setting, value: Any) -> JsonValue:
    """Return a converted value as the file has it; None for none."""
    if value is None or value == ():
        return option.default_path()
    if isinstance(value, tuple):
        return [str(item) for item in value]
    if isinstance(option.type, Quantity):
        return option.type.text(value)
    return value if isinstance(value, bool | int) else str(value)
