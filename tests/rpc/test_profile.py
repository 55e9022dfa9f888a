"""The profile file: names of services with their addresses and credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.errors import InvalidInput, InvalidType
from dbp.rpc.address import service_address
from dbp.rpc.credentials import Credentials

PROFILE = """
[service.cluster]
address = "train.example.org:5327"
token_file = "/run/cluster.token"
ca = "/etc/cluster-ca.pem"
"""


@pytest.fixture(autouse=True)
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile file, and no variables of credentials."""
    path = tmp_path / "client.toml"
    path.write_text(PROFILE)
    monkeypatch.setenv("DBP_CLIENT_CONFIG", str(path))
    for name in ("TOKEN_FILE", "CA_FILE", "CERT_FILE", "KEY_FILE", "SERVICE_USER", "SERVICE"):
        monkeypatch.delenv(f"DBP_{name}", raising=False)
    return path


def test_a_name_stands_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert service_address("cluster") == "train.example.org:5327"
    monkeypatch.setenv("DBP_SERVICE", "cluster")
    assert service_address() == "train.example.org:5327"
    with pytest.raises(InvalidInput, match=r"'clustre', did you mean 'cluster'\?; it has"):
        service_address("clustre")


def test_the_credentials_of_an_address_are_found() -> None:
    found = Credentials.found("train.example.org:5327")

    assert found.token_file == Path("/run/cluster.token")
    assert found.ca == "/etc/cluster-ca.pem"
    assert Credentials.found("other:1") == Credentials()


def test_arguments_count_before_variables_and_those_before_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DBP_TOKEN_FILE", "/run/other.token")
    monkeypatch.setenv("DBP_CA_FILE", "system")
    address = "train.example.org:5327"

    assert Credentials.found(address).token_file == Path("/run/other.token")
    assert Credentials.found(address).ca == "system"
    given = Credentials.found(address, token="dbp1_x", ca="/ca.pem")
    assert (given.token, given.token_file, given.ca) == ("dbp1_x", None, "/ca.pem")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x", "is no profile file in TOML"),
        ("[other]", "must hold tables"),
        ("[service]\na = 1", "must be a table of texts"),
        ('[service.a]\nca = "b"', "needs an address"),
        ('[service.a]\naddress = "b:1"\ntokenfile = "c"', "did you mean 'token_file'"),
        ('[service.a]\naddress = "b:1"\ntoken = "dbp1_secret"', "has no 'token'"),
    ],
)
def test_a_wrong_file_is_named_with_the_entry(profile: Path, text: str, error: str) -> None:
    profile.write_text(text)

    with pytest.raises(InvalidInput, match=error) as caught:
        Credentials.found("a:1")

    assert str(profile) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_error_and_no_text_of_credentials_shows_a_token(tmp_path: Path) -> None:
    secret = "dbp1_very secret"
    (tmp_path / "token").write_text(secret)
    with pytest.raises(InvalidInput, match="token: is no token") as argument:
        Client("127.0.0.1:1", token=secret)
    with pytest.raises(InvalidType, match="token: must be a str, got bytes") as kind:
        Client("127.0.0.1:1", token=secret.encode())  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="is no token") as file:
        Credentials(token_file=tmp_path / "token").current_token()

    shown = [argument.value, kind.value, file.value, repr(Credentials(token="secret"))]
    assert not any("secret" in str(text).replace("dbp token", "") for text in shown)


def test_a_certificate_needs_its_key_and_the_ca_of_the_service() -> None:
    with pytest.raises(InvalidInput, match="give both"):
        Credentials.found("a:1", ca="ca.pem", cert="ann.pem")
    with pytest.raises(InvalidInput, match=r"takes the service's CA: ca or \$DBP_CA_FILE"):
        Credentials.found("a:1", cert="ann.pem", key="ann.key")


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    for name, error in (("none", "cannot be read"), ("text", "no certificate in PEM")):
        with pytest.raises(InvalidInput, match=f"{name}: .*{error}"):
            Client("127.0.0.1:1", ca=tmp_path / name)
