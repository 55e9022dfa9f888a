"""The caller of the current request: set by the server's guard, read by the services."""

from __future__ import annotations

import os
import pwd
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from dbp.access.roles import Role


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.

    Attributes:
        owner: Name of the user whose jobs these are.
        role: The role.
        origin: Address of the peer, such as ``unix:`` or ``ipv4:127.0.0.1:40138``.
        token: Id of the token; "" where the listener identifies the caller.
        subject: Subject of the client certificate by which the listener identifies the caller;
            "" for none.
    """

    owner: str
    role: Role
    origin: str
    token: str = ""
    subject: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the caller is the service's own user: by the socket, without a token."""
        return self.origin.startswith("unix:") and not self.token


CALLER: Final[ContextVar[Principal]] = ContextVar("caller")


def user_name() -> str:
    """Return the name of this process's user; ``uid-N`` where the system knows none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid-{os.geteuid()}"
