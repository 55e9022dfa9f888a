"""nginx with the configuration of deploy/nginx, at a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.deadline import DEADLINE
from tests.service.certificates import Pair

CONFIGURATION: Final = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "dbp.conf"
# Daemons are not on the path of every user.
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NEEDS_NGINX: Final = pytest.mark.skipif(
    NGINX is None, reason="needs nginx: apt-get install -y nginx-light"
)

_MAIN: Final = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 1;
events {{ worker_connections 2048; }}
http {{
    {temporary}
    include {folder}/dbp.conf;
}}
"""


def configure(
    folder: Path, listen: str, service: str, pair: Pair, changes: Mapping[str, str]
) -> Path:
    """Write the configuration with the addresses and files of a test, and ``changes``."""
    text = CONFIGURATION.read_text()
    replaced = {
        "listen 443 ": f"listen {listen} ",
        "server 127.0.0.1:5327;": f"server {service};",
        "/etc/dbp/tls/server.pem": str(pair.certificate),
        "/etc/dbp/tls/server.key": str(pair.key),
        "/var/log/nginx/dbp.log": str(folder / "access.log"),
        **changes,
    }
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "dbp.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    main = _MAIN.format(
        folder=folder,
        user="user root;" if os.geteuid() == 0 else "",
        temporary=" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
    )
    (folder / "nginx.conf").write_text(main)
    return folder / "nginx.conf"


def command(configuration: Path, *options: str) -> list[str]:
    """The command line of nginx with a configuration."""
    assert NGINX is not None
    folder = configuration.parent
    files = ("-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration))
    return [NGINX, *files, *options]


@contextmanager
def proxy(
    folder: Path, service: str, pair: Pair, changes: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run nginx in front of a service; yield its address."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        configuration = configure(folder, f"127.0.0.1:{port}", service, pair, changes or {})
        # nginx takes over open listeners that this variable names.
        variables = {**os.environ, "NGINX": f"{listener.fileno()};"}
        process = subprocess.Popen(
            command(configuration), env=variables, pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        yield f"localhost:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
