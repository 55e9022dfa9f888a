"""Two machines with a link: a service with TLS on one, its users and strangers on the other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np
import psutil
import pytest

from dbp.client.client import Client
from tests.cli.setups import DBP, ENDLESS, environment, output, until, write_spec
from tests.deadline import DEADLINE
from tests.service.certificates import NEEDS_OPENSSL, Authority
from tests.system.linked_machines import (
    NEEDS_NAMESPACES,
    SERVICE_HOST,
    Machine,
    Machines,
    linked_machines,
)

pytestmark = [pytest.mark.full, pytest.mark.processes, NEEDS_OPENSSL, *NEEDS_NAMESPACES]

NO_PERMISSION = 4
UNREACHABLE = 3
LIST_JOBS = "/dbp.v1.JobService/ListJobs"
SERVER_LIVE = "/inference.GRPCInferenceService/ServerLive"
IDENTITY = f"subjectAltName=IP:{SERVICE_HOST}"


@dataclass
class Link:
    """A service on one machine, and what its users on the other have."""

    machines: Machines
    folder: Path
    address: str
    socket: str
    ca: Path
    pinned: Path
    stranger: Path
    tokens: dict[str, Path] = field(default_factory=dict)

    def token(self, owner: str, *options: str) -> Path:
        """A file with a new token of a submitter, made on the service's machine."""
        file = self.folder / f"{owner}-{len(self.tokens)}.token"
        made = ("token", "create", "--role", "submitter", "--owner", owner, "-o", str(file))
        token_id = output(*made, *options, service=self.socket).strip()
        self.tokens[token_id] = file
        return file

    def id_of(self, token: Path) -> str:
        """The id of a token."""
        return next(each for each, file in self.tokens.items() if file == token)

    def there(
        self, token: Path | None = None, ca: Path | None = None, address: str = ""
    ) -> dict[str, str]:
        """The environment of a user on the other machine, who shares no folder with here.

        With a user's name the client looks for no socket of a service at a port.
        """
        home = self.folder / "there"
        home.mkdir(exist_ok=True)
        found = environment(address or self.address, DBP_SERVICE_USER="root")
        found |= {"XDG_RUNTIME_DIR": str(home), "DBP_STATE": str(home / "state")}
        found |= {"DBP_CLIENT_CONFIG": str(home / "client.toml")}
        if token is not None:
            found["DBP_TOKEN_FILE"] = str(token)
        if ca is not None:
            found["DBP_CA_FILE"] = str(ca)
        return found

    def dbp(
        self, *arguments: str, token: Path | None = None, ca: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command on the other machine, to its end."""
        return self.machines.client.run(*DBP, *arguments, env=self.there(token, ca))

    def succeed(self, *arguments: str, token: Path) -> str:
        """The output of a command on the other machine that must succeed."""
        done = self.dbp(*arguments, token=token, ca=self.ca)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def audited(self) -> list[dict[str, str]]:
        """The lines of the audit log."""
        lines = (self.folder / "state" / "access" / "audit.log").read_text().splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def serving(machine: Machine, state: Path, *options: str) -> Iterator[dict[str, str]]:
    """A service on a machine without a folder of data; what its service.json says."""
    command = [*DBP, "serve", "--port", "0", "--state", str(state), "--output", "json"]
    process = machine.start(*command, *options, env=environment())
    try:
        assert cast("IO[str]", process.stdout).readline(), "it has not started"
        found: dict[str, str] = json.loads((state / "service.json").read_text())
        yield found
        with Client(found["socket"]) as client:
            for job in client.jobs():
                if not job.state.terminal:
                    client.job(job.id).cancel(force=True)
                    client.job(job.id).wait()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    until(lambda: not any(str(state) in " ".join(p) for p in command_lines()))


def command_lines() -> Iterator[list[str]]:
    for process in psutil.process_iter():
        try:
            yield process.cmdline()
        except psutil.Error:
            continue


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    folder = tmp_path_factory.mktemp("linked")
    authority, other = Authority(folder / "ca"), Authority(folder / "other")
    pair = authority.issue("server", "/CN=dbp", IDENTITY)
    options = ("--host", SERVICE_HOST, "--tls-cert", str(pair.certificate))
    with (
        linked_machines() as machines,
        serving(
            machines.service, folder / "state", *options, "--tls-key", str(pair.key)
        ) as found,
    ):
        assert found["address"].startswith(f"{SERVICE_HOST}:")
        yield Link(
            machines, folder, found["address"], found["socket"],
            authority.certificate, pair.certificate, other.certificate,
        )  # fmt: skip


@pytest.fixture(scope="module")
def ann(link: Link) -> Path:
    """A token."""
    return link.token("ann")


@pytest.fixture(scope="module")
def endless(link: Link, ann: Path) -> str:
    """A job of ann's that runs during the tests of this module."""
    spec = write_spec(link.folder / "endless.toml", name="endless", steps=ENDLESS)
    job = link.succeed("submit", str(spec), token=ann).strip()
    link.succeed("params", job, "--wait", "120", token=ann)
    return job


def test_a_user_trains_reads_and_predicts_over_the_link(
    link: Link, ann: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "small.toml", steps=30)
    np.save(tmp_path / "rows.npy", np.zeros((3, 64), np.float32))

    job = link.succeed("submit", str(spec), token=ann).strip()
    watched = link.succeed("watch", job, "--output", "json", token=ann)
    link.succeed("params", job, "-o", str(tmp_path / "a.safetensors"), "--verify", token=ann)
    predicted = link.succeed("predict", job, str(tmp_path / "rows.npy"), token=ann)

    assert "SUCCEEDED" in watched
    assert (tmp_path / "a.safetensors").stat().st_size > 4 * 16 * 64
    assert len(predicted.splitlines()) >= 3
    origins = {line["from"].rpartition(":")[0] for line in link.audited() if line["token"]}
    assert origins == {"ipv4:10.203.0.2"}


@pytest.mark.parametrize("trusted", ["ca", "pinned"])
def test_health_needs_no_token_but_the_certificate(link: Link, trusted: str) -> None:
    done = link.dbp("health", ca=getattr(link, trusted))
    assert (done.returncode, done.stdout) == (0, f"{link.address}: serving\n"), done.stderr

    for wrong in (link.stranger, None):
        assert link.dbp("health", ca=wrong).returncode == UNREACHABLE


@pytest.mark.parametrize("fault", ["none", "wrong", "expired", "revoked"])
def test_a_caller_without_a_valid_token_is_refused(link: Link, fault: str) -> None:
    token: Path | None = None
    if fault == "wrong":
        token = link.folder / "wrong.token"
        token.write_text("dbp1_" + "A" * 43)
    elif fault == "expired":
        token = link.token("eve", "--expires", "1s")
        until(lambda: link.dbp("jobs", token=token, ca=link.ca).returncode != 0)
    elif fault == "revoked":
        token = link.token("eve")
        assert link.dbp("jobs", token=token, ca=link.ca).returncode == 0
        output("token", "revoke", link.id_of(token), service=link.socket)

    done = link.dbp("jobs", token=token, ca=link.ca)

    texts = {"none": "no token was sent", "wrong": "is not one of this service's"}
    assert done.returncode == NO_PERMISSION
    assert texts.get(fault, f"of eve: {fault}") in done.stderr
    assert done.stdout == ""
    assert link.audited()[-1]["answer"] == "UNAUTHENTICATED"


def test_no_token_goes_to_a_certificate_that_is_not_pinned(link: Link, ann: Path) -> None:
    before = len(link.audited())

    done = link.dbp("jobs", token=ann, ca=link.stranger)

    assert done.returncode == UNREACHABLE
    assert len(link.audited()) == before, "the service got no call"


def test_no_call_passes_without_encryption(link: Link, ann: Path) -> None:
    before = len(link.audited())

    done = link.dbp("jobs", token=ann)
    assert done.returncode == 2
    assert "a token would leave this machine without encryption" in done.stderr

    secret = ann.read_text().strip()
    answer = stranger(link.machines.client, "call", link.address, LIST_JOBS, secret)
    assert answer.startswith("UNAVAILABLE")
    assert len(link.audited()) == before, "the service got no call"


def stranger(machine: Machine, *arguments: str) -> str:
    """The outcome of an action of another user on a machine, without dbp's client."""
    done = machine.run(sys.executable, "-m", "tests.system.as_nobody", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_stranger_at_a_loopback_port_of_the_other_machine_gets_no_token(
    link: Link, ann: Path, encrypted: bool
) -> None:
    client = link.machines.client
    listener = client.start(sys.executable, "-m", "tests.system.as_nobody", "listen")
    port = cast("IO[str]", listener.stdout).readline().strip()
    there = link.there(ann, link.ca if encrypted else None, f"127.0.0.1:{port}")

    caller = client.start(*DBP, "jobs", env=there, stderr=subprocess.PIPE)
    until(lambda: caller.poll() is not None or client.is_connected(int(port)))
    received, _ = listener.communicate("\n", timeout=DEADLINE)
    _, errors = caller.communicate(timeout=DEADLINE)

    assert caller.returncode == UNREACHABLE
    if encrypted:
        assert received.startswith("1603"), "a greeting of TLS"
        assert ann.read_text().strip().encode().hex() not in received
    else:
        assert "belongs to user 'nobody'" in errors
        assert received.strip() == ""


def test_a_job_of_another_owner_is_closed_to_a_user(link: Link, endless: str) -> None:
    bob = link.token("bob")

    assert endless not in link.succeed("jobs", token=bob)
    for command in ("show", "cancel", "params", "watch", "logs"):
        done = link.dbp(command, endless, token=bob, ca=link.ca)
        assert (done.returncode, done.stdout) == (NO_PERMISSION, ""), command
        assert "a private job of another user" in done.stderr


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_live_stream_ends_with_its_token(link: Link, endless: str, end: str) -> None:
    token = link.token("ann", *(("--expires", "20s") if end == "expired" else ()))
    with (link.folder / "errors").open("w") as errors:
        watch = link.machines.client.start(
            *DBP, "watch", endless, "--output", "json", env=link.there(token, link.ca),
            stderr=errors,
        )  # fmt: skip
    assert cast("IO[str]", watch.stdout).readline(), "it watches"

    if end == "revoked":
        output("token", "revoke", link.id_of(token), service=link.socket)
    watch.communicate(timeout=DEADLINE)

    assert watch.returncode == NO_PERMISSION
    assert f"{end} during the call" in (link.folder / "errors").read_text()


def test_a_job_over_tcp_reads_no_data_file_by_default(link: Link, ann: Path) -> None:
    table = link.folder / "table.csv"
    table.write_text("a,b,y\n" + "5,3,0\n7,2,1\n" * 200)
    spec = link.folder / "table.toml"
    spec.write_text(
        f'name = "t"\n[data]\ntrain = {{ kind = "csv", path = "{table}", target = "y" }}\n'
        '[model]\nlayers = [{ kind = "dense", units = 2 }]\nloss = "softmax_cross_entropy"\n'
        '[optimizer]\nkind = "sgd"\nlearning_rate = 0.1\n[train]\nsteps = 1\nbatch_size = 10\n'
    )

    done = link.dbp("submit", str(spec), "--check", token=ann, ca=link.ca)
    assert done.returncode == 2
    assert "a folder that the service may read (none is set)" in done.stderr
    assert output("submit", str(spec), "--check", service=link.socket), "its own user may"


def test_a_watch_resumes_after_the_link_was_cut(
    link: Link, endless: str, ann: Path, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "errors").open("w") as errors:
        watch = subprocess.Popen(
            link.machines.client.inside(*DBP, "watch", endless, "--output", "json"),
            env=link.there(ann, link.ca), stdout=out, stderr=errors, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def lines() -> int:
        return (tmp_path / "out").read_text().count("\n")

    until(lines)
    link.machines.client.set_link("down")
    try:
        assert link.dbp("health", ca=link.ca).returncode == UNREACHABLE
        until(lambda: "trying again" in (tmp_path / "errors").read_text())
        before = lines()
    finally:
        link.machines.client.set_link("up")
    until(lambda: lines() > before + 2)
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=DEADLINE)

    steps = [
        found["progress"]["step"]
        for found in map(json.loads, (tmp_path / "out").read_text().splitlines())
        if found.get("progress")
    ]
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]


def test_open_inference_is_not_reached_over_the_link(link: Link, tmp_path: Path) -> None:
    service, client = link.machines.service, link.machines.client
    with serving(service, tmp_path / "state", "--open-inference") as found:
        address = found["address"]
        assert stranger(service, "call", address, SERVER_LIVE).startswith("OK")
        assert stranger(service, "call", address, LIST_JOBS).startswith("UNAUTHENTICATED")
        for other in (address, address.replace("127.0.0.1", SERVICE_HOST)):
            assert stranger(client, "call", other, SERVER_LIVE).startswith("UNAVAILABLE")


@pytest.mark.parametrize("options", [(), ("--open-inference",)])
def test_no_service_starts_on_the_link_without_encryption(
    link: Link, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = link.machines.service.run(
        *DBP, "serve", "--host", SERVICE_HOST, "--port", "0", "--state", str(tmp_path / "s"),
        *options, env=environment(),
    )  # fmt: skip

    assert done.returncode == 2
    assert f"'{SERVICE_HOST}' can be reached from other machines" in done.stderr
