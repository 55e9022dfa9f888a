"""TLS of the TCP listener: who trusts whom, client certificates, reload, open inference."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from dbp.access.roles import Role
from dbp.access.tokens import TokenStore
from dbp.errors import InvalidInput, Unavailable
from dbp.inference import open_inference_pb2 as inference_pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.jobs.config import ManagerConfig
from dbp.rpc.channel import connect
from dbp.rpc.credentials import Credentials
from dbp.service.config import ServerConfig
from dbp.service.server import running
from dbp.service.tls import TlsFiles
from dbp.v1 import access_service_pb2 as access_pb
from dbp.v1.access_service_pb2_grpc import AccessServiceStub
from tests.jobs.fakes import FakeLauncher, fake_check
from tests.service.callers import answer_code
from tests.service.certificates import NEEDS_OPENSSL, Authority
from tests.service.setups import refused

pytestmark = pytest.mark.processes  # openssl's

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
LIST_JOBS = "/dbp.v1.JobService/ListJobs"


@dataclass
class Place:
    """A service that speaks TLS."""

    address: str
    token: str
    reload: Callable[[], None]


@asynccontextmanager
async def serving(
    state: Path, tls: TlsFiles | None, *, host: str = "127.0.0.1", open_inference: bool = False
) -> AsyncIterator[Place]:
    """One life of a service with a token of ann's, a submitter."""
    state.mkdir(mode=0o700, exist_ok=True)
    token, _ = TokenStore(state / "access", "me").create(Role.SUBMITTER, "ann")
    config = ServerConfig(host, 0, state, ManagerConfig(), (state.parent,), tls, open_inference)
    reloads: list[Callable[[], None]] = []
    service = running(
        config, launcher=FakeLauncher(), check=fake_check, on_reload=reloads.append
    )
    async with service as address:
        yield Place(address, token, reloads[0])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


async def who(address: str, credentials: Credentials) -> access_pb.WhoAmIResponse:
    """Who a caller is to a service."""
    async with connect(address, credentials) as channel:
        answer: access_pb.WhoAmIResponse = await AccessServiceStub(channel).WhoAmI(
            access_pb.WhoAmIRequest(), timeout=30
        )
        return answer


@NEEDS_OPENSSL
async def test_a_token_goes_over_tls_to_the_ca_or_the_pinned_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    server = authority.issue("server", "/CN=localhost")
    strange = Authority(tmp_path / "other")
    async with serving(tmp_path / "state", TlsFiles(server.certificate, server.key)) as place:
        for trusted in (authority.certificate, server.certificate):
            for address in (place.address, place.address.replace("127.0.0.1", "localhost")):
                credentials = Credentials(token=place.token, ca=str(trusted))
                assert (await who(address, credentials)).owner == "ann"

        wrong_ca = Credentials(token=place.token, ca=str(strange.certificate))
        for credentials in (wrong_ca, Credentials(token=place.token, ca="system")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(place.address, credentials)
            assert caught.value.code() is UNAVAILABLE
        await refused(
            who(place.address, Credentials(ca=str(authority.certificate))), UNAUTHENTICATED
        )
        async with grpc.aio.insecure_channel(place.address) as channel:
            code, _ = await answer_code(channel, LIST_JOBS)
        assert code is UNAVAILABLE, "there is no plaintext beside it"


@NEEDS_OPENSSL
async def test_any_address_may_be_listened_on_with_tls(
    tmp_path: Path, authority: Authority
) -> None:
    server = authority.issue("server", "/CN=localhost")
    tls = TlsFiles(server.certificate, server.key)
    async with serving(tmp_path / "state", tls, host="0.0.0.0") as place:
        address = place.address.replace("0.0.0.0", "127.0.0.1")
        credentials = Credentials(token=place.token, ca=str(authority.certificate))
        assert (await who(address, credentials)).owner == "ann"


@NEEDS_OPENSSL
async def test_a_client_certificate_is_its_holder_in_the_table_only(
    tmp_path: Path, authority: Authority
) -> None:
    server = authority.issue("server", "/CN=localhost")
    bob, eve = (authority.issue(name, f"/O=lab/CN={name}") for name in ("bob", "eve"))
    forged = Authority(tmp_path / "other").issue("bob", "/O=lab/CN=bob")
    table = tmp_path / "clients.toml"
    table.write_text('[[client]]\nsubject = "CN=bob,O=lab"\nowner = "bob"\nrole = "viewer"\n')
    tls = TlsFiles(server.certificate, server.key, authority.certificate, table)

    async with serving(tmp_path / "state", tls) as place:

        def credentials(pair: Any, token: str = "") -> Credentials:
            ca = str(authority.certificate)
            if pair is None:
                return Credentials(token=token, ca=ca)
            return Credentials(
                token=token, ca=ca, cert=str(pair.certificate), key=str(pair.key)
            )

        found = await who(place.address, credentials(bob))
        assert (found.owner, found.role, found.token) == ("bob", access_pb.ROLE_VIEWER, "")
        assert (await who(place.address, credentials(bob, place.token))).owner == "ann"
        text = await refused(who(place.address, credentials(eve)), UNAUTHENTICATED)
        assert "'CN=eve,O=lab' is not in the service's table of clients" in text
        for pair in (None, forged):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(place.address, credentials(pair, place.token))
            assert caught.value.code() is UNAVAILABLE, "no handshake"

        async with connect(place.address, credentials(bob)) as channel:
            watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            place.reload()  # changes nothing for him
            table.write_text(
                '[[client]]\nsubject = "CN=eve,O=lab"\nowner = "eve"\nrole = "admin"\n'
            )
            place.reload()
            text = await refused(watch.read(), UNAUTHENTICATED)
            assert "'CN=bob,O=lab': removed from the table of clients during the call" in text
        assert (await who(place.address, credentials(eve))).role == access_pb.ROLE_ADMIN
        await refused(who(place.address, credentials(bob)), UNAUTHENTICATED)


@NEEDS_OPENSSL
async def test_a_new_certificate_is_used_after_a_reload_and_a_broken_one_is_not(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    server = authority.issue("server", "/CN=localhost")
    later = Authority(tmp_path / "later")
    following = later.issue("server", "/CN=localhost")
    async with serving(tmp_path / "state", TlsFiles(server.certificate, server.key)) as place:
        before = Credentials(token=place.token, ca=str(authority.certificate))
        after = Credentials(token=place.token, ca=str(later.certificate))

        server.certificate.write_text("nothing")
        place.reload()
        assert "cannot be used for TLS" in caplog.text
        assert (await who(place.address, before)).owner == "ann"

        server.certificate.write_bytes(following.certificate.read_bytes())
        server.key.write_bytes(following.key.read_bytes())
        place.reload()
        assert (await who(place.address, after)).owner == "ann"
        with pytest.raises(grpc.aio.AioRpcError):
            await who(place.address, before)


@NEEDS_OPENSSL
@pytest.mark.parametrize("fault", ["other key", "no key", "encrypted", "text"])
async def test_files_that_do_not_fit_are_refused_before_the_start(
    tmp_path: Path, authority: Authority, fault: str
) -> None:
    server, other = (authority.issue(name, "/CN=localhost") for name in ("server", "other"))
    key = server.key
    if fault == "other key":
        key = other.key
    elif fault == "no key":
        key = tmp_path / "none"
    elif fault == "text":
        key.write_text("nothing")
    else:
        from tests.service.certificates import openssl

        key = tmp_path / "encrypted.key"
        openssl(
            tmp_path, "ec", "-in", str(server.key), "-aes128", "-passout", "pass:secret",
            "-out", str(key),
        )  # fmt: skip

    with pytest.raises(InvalidInput, match="cannot be used for TLS"):
        async with serving(tmp_path / "state", TlsFiles(server.certificate, key)):
            pass


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x", "is no table of clients"),
        ("", "tables"),
        ("[client]\na = 1", "tables"),
        ('[[client]]\nsubject = "CN=a"\nowner = "a"', "must have subject, owner and role"),
        ('[[client]]\nsubject = "CN=a"\nowner = "a"\nrole = "king"', "role must be one of"),
        ('[[client]]\nsubject = "CN=a"\nowner = "a b"\nrole = "viewer"', "owner: must be"),
        ('[[client]]\nsubject = ""\nowner = "a"\nrole = "viewer"', "must be texts"),
        (2 * '[[client]]\nsubject = "CN=a"\nowner = "a"\nrole = "viewer"\n', "there twice"),
    ],
)
def test_a_table_of_clients_that_is_wrong_is_refused(
    tmp_path: Path, text: str, error: str
) -> None:
    from dbp.access.certificates import CertificateTable

    (tmp_path / "clients.toml").write_text(text)

    with pytest.raises(InvalidInput, match=error):
        CertificateTable.read(tmp_path / "clients.toml")


# Without encryption


async def test_open_inference_answers_inference_and_health_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path / "state", None, open_inference=True) as place,
        grpc.aio.insecure_channel(place.address) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        assert (await stub.ServerReady(inference_pb.ServerReadyRequest())).ready
        code, _ = await answer_code(channel, "/grpc.health.v1.Health/Watch")
        assert code is grpc.StatusCode.OK
        for method in (LIST_JOBS, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            code, _ = await answer_code(channel, method)
            assert code is UNAUTHENTICATED
        code, _ = await answer_code(
            channel, "/inference.GRPCInferenceService/ServerLive",
            (("authorization", "Bearer wrong"),),
        )  # fmt: skip
        assert code is UNAUTHENTICATED, "a token that is sent counts"


async def test_open_inference_stays_on_this_machine(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="allowed: a loopback address"):
        async with serving(tmp_path / "state", None, host="0.0.0.0", open_inference=True):
            pass


async def test_no_token_leaves_the_machine_without_encryption() -> None:
    async with connect("192.0.2.1:5327", Credentials(token="dbp1_x")) as channel:
        with pytest.raises(InvalidInput, match=r"without encryption; .*\$DBP_CA_FILE"):
            AccessServiceStub(channel).WhoAmI(access_pb.WhoAmIRequest())


async def test_a_port_without_a_listener_gets_no_token() -> None:
    async with connect("127.0.0.1:1", Credentials(token="dbp1_x")) as channel:
        with pytest.raises(Unavailable, match="connection refused"):
            AccessServiceStub(channel).WhoAmI(access_pb.WhoAmIRequest())
