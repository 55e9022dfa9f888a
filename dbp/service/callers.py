"""All that knows the callers of a service: tokens, certificates, the gate, the audit log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

import grpc

from dbp.access.audit import AuditLog
from dbp.access.principal import user_name
from dbp.access.tokens import TokenStore
from dbp.errors import DbpError
from dbp.service.config import ServerConfig
from dbp.service.gate import Gate
from dbp.service.tls import ServerTls

AUDIT: Final = "audit.log"

log = logging.getLogger("dbp.service")


@final
class Callers:
    """Tokens and certificates of one service, and its gate."""

    def __init__(
        self,
        folder: Path,
        audit: AuditLog,
        *,
        tls: ServerTls | None,
        open_inference: bool,
    ) -> None:
        """Read the tokens in the folder; DataLoss, Unavailable, OSError."""
        self._tls = tls
        self.tokens = TokenStore(folder, user_name())
        self.gate = Gate(
            self.tokens,
            user_name(),
            clients=lambda subject: tls.clients.find(subject) if tls else None,
            open_inference=open_inference,
            audit=audit,
        )

    @property
    def credentials(self) -> grpc.ServerCredentials | None:
        """The certificates of the TCP listener; None: it has no TLS."""
        return None if self._tls is None else self._tls.credentials()

    def reload(self) -> None:
        """Read tokens and certificates again; end calls of tokens that are not valid any more.

        An invalid file is logged; its former content stays in use.
        """
        for reload in (self.tokens.reload, *([] if self._tls is None else [self._tls.reload])):
            try:
                reload()
            except (DbpError, OSError) as error:
                log.error("reload: %s; the former content stays in use", error)
        self.gate.end_calls()
        log.info("tokens and certificates were read again")


@contextlib.contextmanager
def open_callers(folder: Path, config: ServerConfig) -> Iterator[Callers]:
    """Yield the callers of a service; close the audit log at the end.

    ``folder``: of the tokens. Raises InvalidInput for certificates, and as ``Callers``.
    """
    tls = None if config.tls is None else ServerTls(config.tls)
    with contextlib.closing(AuditLog(folder / AUDIT)) as audit:
        yield Callers(folder, audit, tls=tls, open_inference=config.open_inference)
