"""Credentials of a client, and the certificates by which it knows the service.

From arguments, else from variables, else from the entry with the service's address in the
client's profile file ($DBP_CLIENT_CONFIG, else ``client.toml`` in the user's configuration
folder)::

    [service.cluster]                      # dbp jobs --service cluster
    address = "train.example.org:5327"
    token_file = "~/cluster.token"
    ca = "~/cluster-ca.pem"
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dbp.errors import InvalidInput
from dbp.rpc.profile import Profile, profile_at

TOKEN_VARIABLE: Final = "DBP_TOKEN_FILE"  # noqa: S105 - the name of a variable
CA_VARIABLE: Final = "DBP_CA_FILE"
CERT_VARIABLE: Final = "DBP_CERT_FILE"
KEY_VARIABLE: Final = "DBP_KEY_FILE"
USER_VARIABLE: Final = "DBP_SERVICE_USER"
# In place of a file: the certificate authorities of this system.
SYSTEM: Final = "system"


@dataclass(frozen=True)
class Credentials:
    """The credentials of a client.

    Attributes:
        token: Sent with every call; "": that of ``token_file``.
        token_file: Read again before it is sent; None: the owner's token of this user's
            service at the port, if there is one.
        ca: PEM file of the service's CA, or of its certificate, which is pinned then; SYSTEM;
            "": no TLS.
        cert: PEM file of the client's certificate; "": none.
        key: PEM file of its key.
        user: Name of the user whose process listens at a port of this machine; "": this user.
    """

    token: str = ""
    token_file: Path | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""

    @classmethod
    def found(
        cls,
        address: str = "",
        *,
        token: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
    ) -> Self:
        """Return the given credentials, completed for an address.

        Raises InvalidInput.
        """
        profile = profile_at(address) or Profile()
        if token is not None:
            check_token(token, "token")
        named = _first(None, TOKEN_VARIABLE, profile.token_file)
        found = cls(
            token=token or "",
            token_file=None if token is not None or not named else Path(named),
            ca=_first(ca, CA_VARIABLE, profile.ca),
            cert=_first(cert, CERT_VARIABLE, profile.cert),
            key=_first(key, KEY_VARIABLE, profile.key),
            user=_first(None, USER_VARIABLE, profile.user),
        )
        if bool(found.cert) != bool(found.key):
            raise InvalidInput("cert and key: give both the client's certificate and its key")
        if found.cert and not found.ca:
            raise InvalidInput(
                f"cert: takes the service's CA: ca or ${CA_VARIABLE} ({SYSTEM!r}: the system's)"
            )
        return found

    @property
    def encrypted(self) -> bool:
        """Whether calls go over TLS."""
        return bool(self.ca)

    def current_token(self) -> str:
        """Return the token to send; "" for none. Raises InvalidInput."""
        if self.token or self.token_file is None:
            return self.token
        return read_token(self.token_file)

    def trusted_users(self) -> set[int]:
        """Return the uids that may listen at a port of this machine. Raises InvalidInput."""
        own = {os.geteuid(), 0}
        if not self.user:
            return own
        try:
            return own | {pwd.getpwnam(self.user).pw_uid}
        except KeyError:
            raise InvalidInput(
                f"${USER_VARIABLE}: this machine has no user {self.user!r}"
            ) from None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("token_file", "ca"))
        return f"Credentials({'token=..., ' if self.token else ''}{shown})"


def read_token(path: Path) -> str:
    """Return the token in a file. Raises InvalidInput."""
    try:
        token = path.expanduser().read_text().strip()
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


def _first(given: str | None, variable: str, of_profile: str) -> str:
    if given is not None:
        return given
    return os.environ.get(variable, "") or of_profile
