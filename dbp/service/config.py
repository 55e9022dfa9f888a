"""Settings of a service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbp.jobs.config import ManagerConfig
from dbp.service.tls import TlsFiles


@dataclass(frozen=True)
class ServerConfig:
    """Listeners, state folder, limits and data folders of a service.

    The service always listens on a Unix socket.

    Attributes:
        host: Host name or address of the TCP listener.
        port: Its port; 0: the system chooses; None: there is no TCP listener.
        state: The state folder.
        manager: Limits and timeouts.
        data_roots: Folders below which jobs may read data files; None: any for jobs that are
            submitted over the Unix socket, none for others.
        tls: Certificates of the TCP listener; None: it has no TLS.
        open_inference: Answer inference over TCP without a token.
        allowed_sinks: Kinds of sinks of plug-ins that jobs may name.
    """

    host: str
    port: int | None
    state: Path
    manager: ManagerConfig
    data_roots: tuple[Path, ...] | None
    tls: TlsFiles | None = None
    open_inference: bool = False
    allowed_sinks: tuple[str, ...] = ()
