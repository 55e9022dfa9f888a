"""TLS of a service's TCP listener: certificate and key, certificates of clients, reload."""

from __future__ import annotations

import logging
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import final

import grpc

from dbp.access.certificates import CertificateTable
from dbp.errors import InvalidInput

log = logging.getLogger("dbp.service")


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a service's TLS.

    Attributes:
        certificate: The service's certificate, and those up to its CA.
        key: Its private key.
        client_ca: CA of client certificates, which every caller must have then; None: callers
            send tokens.
        clients: Table of subject, owner and role (see ``CertificateTable``).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    clients: Path | None = None


@final
class ServerTls:
    """The certificates of a service, read again on request."""

    def __init__(self, files: TlsFiles) -> None:
        """Read and check the files. Raises InvalidInput."""
        self._files = files
        self._configuration = self._read()
        self.clients = CertificateTable({})
        self._read_clients()

    def reload(self) -> None:
        """Use the files as they are now for connections that are made from now on.

        Raises InvalidInput, and the files that were read before stay in use.
        """
        self._configuration = self._read()
        self._read_clients()

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a listener, which follow each ``reload``."""
        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._configuration, self._fetch, self._files.client_ca is not None
        )
        return made

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        """Return the certificates of a handshake that begins; gRPC asks before each."""
        return self._configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                files.certificate, files.key, password=_no_password
            )
            if files.client_ca is not None:
                ssl.create_default_context(cafile=str(files.client_ca))
            key, chain = files.key.read_bytes(), files.certificate.read_bytes()
            client_ca = files.client_ca.read_bytes() if files.client_ca else None
        except (OSError, ValueError) as error:
            named = ", ".join(
                str(path) for path in (files.certificate, files.key, files.client_ca) if path
            )
            raise InvalidInput(
                f"{named}: cannot be used for TLS: {error}; PEM files of a certificate, of its "
                "private key (not encrypted), and of the clients' CA are needed"
            ) from error
        if files.key.stat().st_mode & stat.S_IROTH:
            log.warning("%s: every user can read this private key; chmod o= it", files.key)
        return grpc.ssl_server_certificate_configuration([(key, chain)], client_ca)

    def _read_clients(self) -> None:
        if self._files.clients is not None:
            self.clients = CertificateTable.read(self._files.clients)


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
