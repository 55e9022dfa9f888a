"""deploy/tls/make-certificates.sh: a CA and certificates that TLS accepts."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from tests.deadline import DEADLINE

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "tls" / "make-certificates.sh"

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, folder, *arguments], capture_output=True, text=True, timeout=DEADLINE
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's certificate for two names and two addresses, one of a user."""
    folder = tmp_path_factory.mktemp("tls")
    for arguments in (("localhost", "dbp.test", "127.0.0.1", "::1"), ("--client", "ann")):
        done = make(folder, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    return folder


def greeting(folder: Path, name: str, client: ssl.SSLContext) -> bytes:
    """Return what a TLS server with the certificate sends, its client's subject."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.verify_mode = ssl.CERT_OPTIONAL
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.sendall(
                    str((connection.getpeercert() or {}).get("subject")).encode()
                )
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as connection:
            return connection.recv(1024)
    finally:
        ours.close()
        thread.join(DEADLINE)


@pytest.mark.parametrize("name", ["localhost", "dbp.test", "127.0.0.1", "::1"])
def test_a_client_with_the_ca_accepts_the_server_by_each_of_its_names(
    folder: Path, name: str
) -> None:
    assert greeting(folder, name, ssl.create_default_context(cafile=folder / "ca.pem"))


def test_other_names_and_other_authorities_are_refused(folder: Path, tmp_path: Path) -> None:
    ours = ssl.create_default_context(cafile=folder / "ca.pem")
    make(tmp_path, "localhost")
    other = ssl.create_default_context(cafile=tmp_path / "ca.pem")

    with pytest.raises(ssl.SSLCertVerificationError, match="is not valid for"):
        greeting(folder, "other.test", ours)
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        greeting(folder, "localhost", other)


def test_a_certificate_of_a_user_names_him_and_cannot_be_a_server_s(folder: Path) -> None:
    client = ssl.create_default_context(cafile=folder / "ca.pem")
    client.load_cert_chain(folder / "ann.pem", folder / "ann.key")

    assert b"('commonName', 'ann')" in greeting(folder, "localhost", client)
    text = subprocess.run(
        ["openssl", "verify", "-purpose", "sslserver", "-CAfile", "ca.pem", "ann.pem"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert text.returncode != 0


def test_keys_are_private_and_a_second_call_keeps_the_authority(folder: Path) -> None:
    ca, server = (folder / "ca.pem").read_bytes(), (folder / "server.pem").read_bytes()
    assert make(folder, "localhost", "dbp.test", "127.0.0.1", "::1").returncode == 0

    assert (folder / "ca.pem").read_bytes() == ca
    assert (folder / "server.pem").read_bytes() != server
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == (0o600 if path.suffix == ".key" else 0o644), path


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--client",),
        ("--client", "server"),
        ("--client", "a/b"),
        ("a b",),
        ("-x",),
        ("a,b",),
    ],
)
def test_wrong_arguments_are_refused_before_a_certificate_is_made(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = make(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr
    assert not list(tmp_path.glob("server*"))
