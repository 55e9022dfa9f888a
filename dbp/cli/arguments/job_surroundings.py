"""Check what an operator lets jobs have: environment variables, sinks of plug-ins."""

from __future__ import annotations

import os
import re

import click

from dbp.errors import alternatives
from dbp.registry import kinds


def variable_names(
    context: click.Context, parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse an invalid variable name, such as NAME=VALUE; note a variable that is not set."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise click.BadParameter(
                f"must be the name of an environment variable, without a value, got {name!r}"
            )
        if name not in os.environ:
            click.echo(f"note: --pass-env {name}: the variable is not set", err=True)
    return names


def sink_kinds(
    context: click.Context, parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a kind of sink that is not installed."""
    for name in names:
        if name not in kinds("sinks"):
            hint = alternatives(name, list(kinds("sinks")), "installed sinks")
            raise click.BadParameter(f"unknown {name!r}{hint}")
    return names
