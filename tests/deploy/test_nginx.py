"""nginx accepts the configuration for a proxy in front of the service."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.deadline import DEADLINE
from tests.service.certificates import NEEDS_OPENSSL, Authority
from tests.system.nginx import NEEDS_NGINX, command, configure

pytestmark = [NEEDS_NGINX, NEEDS_OPENSSL]


def checked(configuration: Path) -> tuple[int, str]:
    """Exit code and output of `nginx -t`."""
    done = subprocess.run(
        command(configuration, "-t"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=DEADLINE,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_nginx_accepts_the_configuration_without_a_warning(tmp_path: Path) -> None:
    pair = Authority(tmp_path / "ca").issue("server", "/CN=train.example.org")
    listener = f"unix:{tmp_path}/listener"  # nginx opens its listeners for the check, too
    configuration = configure(tmp_path, listener, "127.0.0.1:5327", pair, {})

    code, output = checked(configuration)

    assert (code, "[warn]" in output) == (0, False), output
    part = tmp_path / "dbp.conf"
    part.write_text(part.read_text().replace("grpc_read_timeout", "grpc_reads_timeout"))
    code, output = checked(configuration)
    assert (code, 'unknown directive "grpc_reads_timeout"' in output) == (1, True), output
