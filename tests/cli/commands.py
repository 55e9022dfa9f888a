"""Commands of dbp in documents, compared with those that exist."""

from __future__ import annotations

import shlex

import click

from dbp.cli.main import dbp


def unknown_words(text: str) -> list[str]:
    """Return the words of a command line, ``dbp ...``, that are no command or option."""
    words = shlex.split(text.partition("#")[0])[1:]
    command: click.Command = dbp
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return [words[0]]
        command, words = found, words[1:]
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = [word.split("=")[0] for word in words if word.startswith("--")]
    return [word for word in given if word not in options | {"--help"}]
