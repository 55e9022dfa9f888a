"""nginx in front of a service: TLS and limits per address there, tokens in the service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import grpc
import numpy as np
import pytest

from tests.cli.setups import (
    DBP,
    ENDLESS,
    Server,
    environment,
    output,
    socket_of,
    until,
    write_spec,
)
from tests.deadline import DEADLINE
from tests.service.certificates import NEEDS_OPENSSL, Authority, Pair
from tests.system.nginx import NEEDS_NGINX, proxy

pytestmark = [pytest.mark.full, pytest.mark.processes, NEEDS_OPENSSL, NEEDS_NGINX]

NO_PERMISSION = 4
UNREACHABLE = 3
MEBIBYTE = 1 << 20
LIST_JOBS = "/dbp.v1.JobService/ListJobs"
WATCH_JOBS = "/dbp.v1.JobService/WatchJobs"
INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class Site:
    """A service and the proxy in front of it, and what users have."""

    server: Server
    folder: Path
    address: str
    authority: Authority
    pair: Pair

    def token(self, owner: str) -> tuple[str, Path]:
        """The id of a new token of a submitter, and its file."""
        file = self.folder / f"{owner}-{len(list(self.folder.glob('*.token')))}.token"
        made = ("token", "create", "--role", "submitter", "--owner", owner, "-o", str(file))
        return output(*made, service=socket_of(self.server)).strip(), file

    def user(self, token: Path | None, ca: Path | None = None) -> dict[str, str]:
        """The environment of a user who calls the proxy."""
        more = {} if token is None else {"DBP_TOKEN_FILE": str(token)}
        trusted = ca or self.authority.certificate
        return environment(self.address, DBP_CA_FILE=str(trusted), **more)

    def dbp(
        self, *arguments: str, token: Path | None, ca: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command through the proxy, to its end."""
        return subprocess.run(
            [*DBP, *arguments], env=self.user(token, ca), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip

    def succeed(self, *arguments: str, token: Path) -> str:
        """The output of a command through the proxy that must succeed."""
        done = self.dbp(*arguments, token=token)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def audited(self) -> list[dict[str, str]]:
        """The lines of the service's audit log."""
        lines = (self.server.state / "access" / "audit.log").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("proxied")
    authority = Authority(folder / "ca")
    pair = authority.issue("server", "/CN=localhost")
    with (
        Server(folder / "state") as server,
        proxy(folder / "nginx", server.address, pair) as address,
    ):
        yield Site(server, folder, address, authority, pair)


@pytest.fixture(scope="module")
def ann(site: Site) -> Path:
    """A token."""
    return site.token("ann")[1]


@pytest.fixture(scope="module")
def endless(site: Site, ann: Path) -> str:
    """A job of ann's that runs during the tests of this module."""
    spec = write_spec(site.folder / "endless.toml", name="endless", steps=ENDLESS)
    job = site.succeed("submit", str(spec), token=ann).strip()
    site.succeed("params", job, "--wait", "120", token=ann)
    return job


def call(
    site: Site, method: str, body: bytes = b"", token: Path | None = None, address: str = ""
) -> tuple[str, str]:
    """Code and text of a call by a plain client of gRPC, over TLS."""
    trusted = grpc.ssl_channel_credentials(site.authority.certificate.read_bytes())
    sent = () if token is None else (("authorization", f"Bearer {token.read_text().strip()}"),)
    with grpc.secure_channel(address or site.address, trusted) as channel:
        try:
            ask: Any = channel.unary_unary(method)
            ask(body, metadata=sent, timeout=DEADLINE)
        except grpc.RpcError as error:
            return error.code().name, str(error.details())
    return "OK", ""


def test_a_user_trains_watches_reads_and_predicts_through_the_proxy(
    site: Site, ann: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "small.toml", steps=30)
    np.save(tmp_path / "rows.npy", np.zeros((50_000, 64), np.float32))

    assert site.succeed("health", token=ann) == f"{site.address}: serving\n"
    job = site.succeed("submit", str(spec), token=ann).strip()
    assert "SUCCEEDED" in site.succeed("watch", job, "--output", "json", token=ann)
    site.succeed("params", job, "-o", str(tmp_path / "a.safetensors"), "--verify", token=ann)
    predicted = site.succeed("predict", job, str(tmp_path / "rows.npy"), token=ann)

    assert len(predicted.splitlines()) >= 50_000, "12 MiB of rows"
    audited = [line for line in site.audited() if line["caller"] == "ann"]
    assert {line["from"].rpartition(":")[0] for line in audited} == {"ipv4:127.0.0.1"}
    logged = (site.folder / "nginx" / "access.log").read_text()
    assert " 127.0.0.1 /dbp.v1.JobService/CreateJob 200 0\n" in logged


def test_a_run_by_hand_reports_and_uploads_whatever_the_limit_of_a_request(
    site: Site, ann: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "hand.toml", name="hand", steps=30)
    small = {"client_max_body_size 33m;": "client_max_body_size 1k;"}
    with proxy(tmp_path / "nginx", site.server.address, site.pair, small) as address:
        done = subprocess.run(
            [*DBP, "train", str(spec), "--service", address, "--run", str(tmp_path / "run")],
            env=site.user(ann), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE, cwd=tmp_path,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    (job,) = (
        each
        for each in json.loads(site.succeed("jobs", "--output", "json", token=ann))
        if each["id"].startswith("hand-")
    )
    assert (job["owner"], job["state"]) == ("ann", "SUCCEEDED")
    written = tmp_path / "a.safetensors"
    site.succeed("params", job["id"], "-o", str(written), token=ann)
    assert written.stat().st_size > 1_000


def test_the_largest_request_passes_and_a_larger_one_is_refused(
    site: Site, ann: Path, tmp_path: Path
) -> None:
    code, _ = call(site, INFER, b"\xff" * (31 * MEBIBYTE), ann)
    assert code == "INVALID_ARGUMENT", "the service has read it"
    code, _ = call(site, INFER, b"\xff" * (34 * MEBIBYTE), ann)
    assert code == "RESOURCE_EXHAUSTED"

    small = {"client_max_body_size 33m;": "client_max_body_size 1m;"}
    with proxy(tmp_path / "nginx", site.server.address, site.pair, small) as address:
        code, text = call(site, INFER, b"\xff" * (2 * MEBIBYTE), ann, address)
    assert code == "RESOURCE_EXHAUSTED"
    assert text == "nginx: the request is too large (client_max_body_size)"


@pytest.mark.parametrize("fault", ["none", "wrong", "revoked"])
def test_the_service_checks_tokens_of_calls_through_the_proxy(site: Site, fault: str) -> None:
    token: Path | None = None
    if fault == "wrong":
        token = site.folder / "wrong.token"
        token.write_text("dbp1_" + "A" * 43)
    elif fault == "revoked":
        token_id, token = site.token("eve")
        assert site.dbp("jobs", token=token).returncode == 0
        output("token", "revoke", token_id, service=socket_of(site.server))

    done = site.dbp("jobs", token=token)

    texts = {
        "none": "no token was sent",
        "wrong": "is not one of",
        "revoked": "of eve: revoked",
    }
    assert (done.returncode, done.stdout) == (NO_PERMISSION, "")
    assert texts[fault] in done.stderr
    assert site.audited()[-1]["answer"] == "UNAUTHENTICATED"


def test_a_job_of_another_owner_is_closed_through_the_proxy(site: Site, endless: str) -> None:
    _, bob = site.token("bob")

    for command in ("show", "cancel", "params", "watch", "logs"):
        done = site.dbp(command, endless, token=bob)
        assert (done.returncode, done.stdout) == (NO_PERMISSION, ""), command
    assert endless not in site.succeed("jobs", token=bob)


def test_the_proxy_takes_no_call_without_its_certificate_and_encryption(
    site: Site, ann: Path
) -> None:
    before = len(site.audited())
    other = Authority(site.folder / "other")

    assert site.dbp("jobs", token=ann, ca=other.certificate).returncode == UNREACHABLE
    with grpc.insecure_channel(site.address) as channel:
        ask: Any = channel.unary_unary(LIST_JOBS)
        with pytest.raises(grpc.RpcError):
            ask(b"", metadata=(("authorization", "Bearer dbp1_x"),), timeout=DEADLINE)
    assert len(site.audited()) == before


def test_a_watch_through_the_proxy_ends_with_its_token(
    site: Site, endless: str, tmp_path: Path
) -> None:
    token_id, token = site.token("ann")
    with (tmp_path / "errors").open("w") as errors:
        watch = subprocess.Popen(
            [*DBP, "watch", endless, "--output", "json"], env=site.user(token),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert cast("IO[str]", watch.stdout).readline(), "it watches"

    output("token", "revoke", token_id, service=socket_of(site.server))
    watch.communicate(timeout=DEADLINE)

    assert watch.returncode == NO_PERMISSION
    assert "revoked during the call" in (tmp_path / "errors").read_text()


def test_an_address_with_too_many_open_calls_is_refused_by_the_proxy(
    site: Site, ann: Path, tmp_path: Path
) -> None:
    trusted = grpc.ssl_channel_credentials(site.authority.certificate.read_bytes())
    sent = (("authorization", f"Bearer {ann.read_text().strip()}"),)
    fewer = {"limit_conn dbp_calls 500;": "limit_conn dbp_calls 2;"}
    with (
        proxy(tmp_path / "nginx", site.server.address, site.pair, fewer) as address,
        grpc.secure_channel(address, trusted) as channel,
    ):
        ask: Any = channel.unary_stream(WATCH_JOBS)
        watches = [ask(b"", metadata=sent, timeout=DEADLINE) for _ in range(2)]
        for watch in watches:
            next(watch)

        code, text = call(site, LIST_JOBS, b"", ann, address)
        assert (code, "limit_conn" in text) == ("RESOURCE_EXHAUSTED", True), text
        for watch in watches:
            watch.cancel()
        until(lambda: call(site, LIST_JOBS, b"", ann, address)[0] == "OK")


def test_a_proxy_without_its_service_answers_that_it_is_unavailable(
    site: Site, ann: Path, tmp_path: Path
) -> None:
    with proxy(tmp_path / "nginx", "127.0.0.1:1", site.pair) as address:
        code, text = call(site, LIST_JOBS, b"", ann, address)

    assert (code, text) == ("UNAVAILABLE", "nginx: the service cannot be reached")
