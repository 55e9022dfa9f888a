"""`dbp completion`: print the shell script that completes dbp's commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(dbp completion bash)"     (in ~/.bashrc)
    zsh:   eval "$(dbp completion zsh)"      (in ~/.zshrc)
    fish:  dbp completion fish > ~/.config/fish/completions/dbp.fish
    """
    from dbp.cli.main import dbp

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(dbp, {}, "dbp", "_DBP_COMPLETE").source())
