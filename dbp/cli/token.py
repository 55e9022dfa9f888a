"""`dbp token`: make, list and revoke the tokens of a service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import click

from dbp.access.roles import TOKEN_ROLES, Role
from dbp.cli.arguments.quantities import DURATION
from dbp.cli.arguments.service import TIMEOUT_SECONDS
from dbp.cli.screen.output import (
    echo,
    echo_json,
    output_option,
    service_option,
    table,
    time_text,
)
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.access.tokens import TokenInfo
    from dbp.client.access import AccessCalls
    from dbp.json_value import JsonObject

T = TypeVar("T")


@click.group()
def token() -> None:
    """Make, list and revoke the tokens by which callers over TCP prove who they are.

    These commands need the role admin: over the service's Unix socket its own user has it.

    \b
    Examples:
      dbp token create --role submitter --owner ann --expires 30d -o ann.token
      dbp token list
      dbp token revoke 4f2c9a1b
      DBP_TOKEN_FILE=ann.token dbp jobs --service HOST:PORT      (as the user ann)
    """


@token.command()
@click.option(
    "--role", required=True, type=click.Choice([role.value for role in TOKEN_ROLES]),
    help="viewer reads its own and shared jobs; submitter also submits and changes its own; "
    "admin may do everything.",
)  # fmt: skip
@click.option("--owner", required=True, help="Name of the user; jobs of the token are his.")
@click.option(
    "--expires", type=DURATION, metavar="DURATION",
    help="Time until it ends, such as 30d or 12h.  [default: never]",
)  # fmt: skip
@click.option(
    "-o", "file", type=click.Path(dir_okay=False, path_type=Path),
    help="Write it to a new file (mode 0600) instead of stdout.",
)  # fmt: skip
@service_option
@output_option
def create(
    role: str, owner: str, expires: float | None, file: Path | None, service: str, output: str
) -> None:
    """Make a token and print it, once: the service stores only its SHA-256.

    Its user passes it by a file: DBP_TOKEN_FILE=FILE dbp jobs.

    \b
    Examples:
      dbp token create --role viewer --owner dashboard > dashboard.token
      dbp token create --role submitter --owner ann --expires 30d -o ann.token
    """
    with contextlib.ExitStack() as stack:
        stream = None if file is None else stack.enter_context(_new_file(file))
        secret, entry = _ask(service, lambda calls: calls.create(Role(role), owner, expires))
        if stream is not None:
            stream.write(f"{secret}\n")
    if output == "json":
        shown: JsonObject = _json(entry) if file else {**_json(entry), "token": secret}
        echo_json(shown)
    elif file is None:
        echo(secret)
    else:
        echo(entry.id)


@token.command(name="list")
@service_option
@output_option
def list_(service: str, output: str) -> None:
    """List all tokens, the oldest first; ended ones for 90 days."""
    entries = _ask(service, lambda calls: calls.list())
    if output == "json":
        echo_json([_json(entry) for entry in entries])
        return
    rows: list[tuple[str, ...]] = [("ID", "ROLE", "OWNER", "CREATED", "EXPIRES", "STATE")]
    for entry in entries:
        expires = "never" if entry.expires is None else time_text(entry.expires)
        state = entry.fault(time.time()) or "valid"
        rows.append(
            (entry.id, entry.role, entry.owner, time_text(entry.created), expires, state)
        )
    echo(table(rows))


@token.command()
@click.argument("token_id", metavar="ID")
@service_option
@output_option
def revoke(token_id: str, service: str, output: str) -> None:
    """Refuse the token ID from now on; its live calls and streams end.

    ID is that of `dbp token list`, not the token itself. The service's owner gets another token
    when the service is started again.
    """
    entry = _ask(service, lambda calls: calls.revoke(token_id))
    if output == "json":
        echo_json(_json(entry))
    else:
        echo(f"{entry.id}: revoked (a {entry.role} of {entry.owner})")


@token.command()
@service_option
@output_option
def whoami(service: str, output: str) -> None:
    """Show who the caller is to the service: owner and role."""
    found = _ask(service, lambda calls: calls.who_am_i())
    if output == "json":
        echo_json({"owner": found.owner, "role": found.role.value, "token": found.token})
    else:
        by = f"token {found.token}" if found.token else "the Unix socket"
        echo(f"{found.owner}, {found.role} (by {by})")


def _ask(service: str, ask: Callable[[AccessCalls], Awaitable[T]]) -> T:
    from dbp.client.access import AccessCalls

    async def answer() -> T:
        async with AccessCalls(service, timeout=TIMEOUT_SECONDS) as calls:
            return await ask(calls)

    return asyncio.run(answer())


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """Yield a new private file, before the token is made; an error removes it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        stream = os.fdopen(os.open(path, flags, 0o600), "w")
    except OSError as error:
        raise InvalidInput(
            f"{path}: cannot be made ({error.strerror}); choose another"
        ) from error
    with stream:
        try:
            yield stream
        except BaseException:
            path.unlink()
            raise


def _json(entry: TokenInfo) -> JsonObject:
    return {
        "id": entry.id,
        "role": entry.role.value,
        "owner": entry.owner,
        "create_time": entry.created,
        "expire_time": entry.expires,
        "revoke_time": entry.revoked,
    }
