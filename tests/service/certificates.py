"""Certificates for tests, made by openssl: a CA, a server, clients."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deadline import DEADLINE

NEEDS_OPENSSL = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the command openssl, to make certificates"
)
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA of a test's own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._name = folder, name
        subject = f"/CN=a test's {name}"
        openssl(
            folder, "req", "-x509", *KEY, "-days", "2", "-keyout", f"{name}.key",
            "-out", f"{name}.pem", "-subj", subject,
        )  # fmt: skip
        self.certificate = folder / f"{name}.pem"

    def issue(self, name: str, subject: str, extension: str = SERVER) -> Pair:
        """A certificate of this CA."""
        (self._folder / f"{name}.ext").write_text(f"{extension}\n")
        openssl(
            self._folder, "req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
            "-subj", subject,
        )  # fmt: skip
        openssl(
            self._folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{self._name}.pem",
            "-CAkey", f"{self._name}.key", "-CAcreateserial", "-days", "2",
            "-out", f"{name}.pem", "-extfile", f"{name}.ext",
        )  # fmt: skip
        return Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
