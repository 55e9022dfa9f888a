"""What a client shows to a service, and by what it knows the service: arguments, variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dbp.errors import InvalidInput

TOKEN_VARIABLE: Final = "DBP_TOKEN_FILE"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Credentials:
    """The credentials of a client.

    Attributes:
        token: Sent with every call; "": that of ``token_file``.
        token_file: Read again before it is sent; None: the owner's token of this user's
            service at the port, if there is one.
    """

    token: str = ""
    token_file: Path | None = None

    @classmethod
    def found(cls, *, token: str | None = None) -> Self:
        """Return the given credentials, completed from the environment.

        Raises InvalidInput.
        """
        named = os.environ.get(TOKEN_VARIABLE, "")
        if token is not None:
            check_token(token, "token")
            return cls(token=token)
        return cls(token_file=Path(named) if named else None)

    def current_token(self) -> str:
        """Return the token to send; "" for none. Raises InvalidInput."""
        if self.token or self.token_file is None:
            return self.token
        return read_token(self.token_file)

    def __repr__(self) -> str:
        return f"Credentials(token={'...' if self.token else ''!r}, {self.token_file})"


def read_token(path: Path) -> str:
    """Return the token in a file. Raises InvalidInput."""
    try:
        token = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: cannot be read as a token: {error}") from error
    check_token(token, str(path))
    return token


def check_token(token: str, source: str) -> None:
    """Raise InvalidInput, without the text, unless this can be a token."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(
            f"{source}: is no token, which is one line of ASCII without spaces; "
            "dbp token create makes one"
        )
