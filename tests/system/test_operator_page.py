"""Every command of the operator's page, deploy/README.md, is run here or parsed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.job.state import State
from tests.cli.commands import unknown_words
from tests.cli.setups import ENDLESS, Server, environment, output, run, until, write_spec
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "deploy" / "README.md").read_text()
# State of the job before each command, and after it.
STATES = {
    "pause": (State.RUNNING, State.PAUSED),
    "resume": (State.PAUSED, State.RUNNING),
    "cancel": (State.RUNNING, State.CANCELLED),
    "retry": (State.CANCELLED, State.RUNNING),
    "delete": (State.CANCELLED, None),
}


def has_state(job: JobHandle, state: State) -> bool:
    return job.get().state is state


def inline_commands() -> list[str]:
    blocks = re.findall(r"^\$ (?:sudo .*?|.*/)?(dbp .*)$", PAGE, re.MULTILINE)
    return blocks + [" ".join(text.split()) for text in re.findall(r"`(dbp [^`]+)`", PAGE)]


def test_commands_and_options_of_the_page_exist() -> None:
    shown = inline_commands()
    assert len(shown) > 10
    for text in shown:
        assert unknown_words(text) == [], text


# The port is chosen by the system.
ADDRESS = """
address() {
  python3 - <<'END'
import json, os
found = json.load(open(os.environ["DBP_STATE"] + "/service.json"))
print(found["address"].replace("0.0.0.0", "localhost"))
END
}
"""


def here(text: str, folder: Path) -> str:
    """The text with folders below ``folder``, and addresses of this machine."""
    for name in ("/etc/dbp", "/opt/dbp", "/backups", "/srv/data", "/var/lib"):
        text = text.replace(name, f"{folder}{name}")
    text = text.replace("train.example.org:5327", '"$(address)"')
    return text.replace("train.example.org", "localhost").replace("port = 5327", "port = 0")


def prepare(folder: Path) -> str:
    """Make the folders and dbp.toml; return the script of the page's first commands."""
    (settings,) = re.findall(r"^```toml\n(host = .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(
        r"^```console\n(\$ deploy/tls.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    for name in ("etc/dbp", "backups", "srv/data", "var/lib"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/dbp/dbp.toml").write_text(here(settings, folder))
    (folder / "deploy").symlink_to(ROOT / "deploy")
    lines = [line.removeprefix("$ ") for line in here(block, folder).splitlines()]
    return "\n".join(["set -eu", "trap 'kill %1 2>/dev/null || :' EXIT", ADDRESS, *lines])


def bash(
    script: str, folder: Path, *, prefix: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, "bash", "-c", script], cwd=folder, env=environment(**variables),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * DEADLINE,
        start_new_session=True,
    )  # fmt: skip


def test_the_page_runs_from_the_installation_to_the_restored_backup(tmp_path: Path) -> None:
    script = prepare(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    state = str(tmp_path / "var/lib/dbp")

    done = bash(script, tmp_path, DBP_STATE=state, XDG_RUNTIME_DIR=str(tmp_path), PATH=path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "drained: no job runs" in done.stdout
    assert f"restored {tmp_path}/var/lib/dbp-new" in done.stdout
    with Server(tmp_path / "var/lib/dbp-new") as server:
        assert "digits-" in output("jobs", service=server.address)


def interpreters() -> list[Path]:
    """Interpreters of this version that every user can run."""
    found = [Path(sys.executable).resolve(), Path(f"/usr/bin/{VERSION}")]
    return [
        path
        for path in found
        if path.exists()
        and all(above.stat().st_mode & 0o001 for above in (path, *path.parents))
    ]


def build_wheel(folder: Path) -> Path:
    """A wheel of the working tree, built without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=DEADLINE)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with accounts of its own, that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="dbp-page-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "etc").mkdir()
        for accounts in ("passwd", "group", "shadow", "gshadow"):
            (folder / "etc" / accounts).touch()
        yield folder


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make and act as the user dbp")
@pytest.mark.skipif(shutil.which("useradd") is None, reason="needs the command useradd")
@pytest.mark.skipif(
    Path("/dev/null").stat().st_mode & 0o006 != 0o006,
    reason="other users cannot use /dev/null here; chmod 666 /dev/null",
)
@pytest.mark.skipif(
    not interpreters(), reason="other users can run no python of this version here"
)
def test_the_page_runs_as_the_user_and_from_the_environment_that_it_makes(root: Path) -> None:
    (block,) = re.findall(r"^```text\n(useradd .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    wheel = build_wheel(root)
    # Accounts below the root alone; the wheel of this tree, without a network.
    install = here(block, root).replace("useradd ", f"useradd --prefix {root} ")
    install = install.replace("'dbp[mpi]'", f"--no-index --no-deps {wheel}")
    script = prepare(root)
    (root / "python").mkdir()
    (root / "python" / "python3").symlink_to(interpreters()[0])

    installed = bash(f"set -eux\n{install}", root, PATH=f"{root}/python:{os.environ['PATH']}")

    assert installed.returncode == 0, installed.stderr
    (line,) = (root / "etc/passwd").read_text().splitlines()
    name, _, uid, gid, _, home, shell = line.split(":")
    assert (name, home, shell) == ("dbp", f"{root}/var/lib/dbp", "/usr/sbin/nologin")
    (packages,) = (root / "opt/dbp").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    for folder in ("etc/dbp", "backups", "var/lib", "run"):
        (root / folder).mkdir(exist_ok=True)
        os.chown(root / folder, int(uid), int(gid))
    os.chown(root, int(uid), int(gid))  # the page's present folder, of ann.token

    done = bash(
        script, root, prefix=("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"),
        DBP_STATE=str(root / "var/lib/dbp"), XDG_RUNTIME_DIR=str(root / "run"), HOME=home,
        TMPDIR=str(root / "run"),
        PATH=f"{root}/opt/dbp/bin:{os.environ['PATH']}",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"restored {root}/var/lib/dbp-new" in done.stdout
    state = root / "var/lib/dbp-new"
    assert state.stat().st_uid == int(uid)
    assert (state / "dbp.sqlite").stat().st_uid == int(uid)


def test_commands_of_the_page_change_a_job_as_its_table_says(tmp_path: Path) -> None:
    table = re.findall(r"^\| `dbp (\w+) JOB` \|", PAGE, re.MULTILINE)
    assert sorted(table) == sorted(STATES)
    with (
        Server(tmp_path / "state") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        job = client.submit(write_spec(tmp_path / "a.toml", steps=ENDLESS), workers=1)
        for name in ("pause", "resume", "cancel", "retry", "cancel", "delete"):
            before, after = STATES[name]
            until(partial(has_state, job, before))
            output(name, job.id, service=server.address)
            if after is not None:
                until(partial(has_state, job, after))
        assert run("show", job.id, service=server.address).returncode != 0


def test_a_damaged_database_is_refused_in_the_words_of_the_page(tmp_path: Path) -> None:
    ((command, shown),) = re.findall(
        r"^\$ (dbp serve .*)\n(error: (?:.+\n)+?)```", PAGE, re.MULTILINE
    )
    state, old = tmp_path / "state", tmp_path / "old.sqlite"
    with Server(state) as server, Client(server.address, patience=DEADLINE) as client:
        server.stop(signal.SIGTERM)
        shutil.copy(state / "dbp.sqlite", old)
        server.start()
        job = client.submit(write_spec(tmp_path / "a.toml", steps=50), workers=1)
        assert job.wait().state is State.SUCCEEDED
        server.stop(signal.SIGTERM)
        shutil.copy(old, state / "dbp.sqlite")

        refused = run(*shlex.split(command.replace("/var/lib/dbp", str(state)))[1:])

        expected = " ".join(shown.replace("/var/lib/dbp", str(state)).split())
        number = re.compile(r"(?<=commit )[\d,]+|(?<=here is )[\d,]+")
        assert refused.returncode == 1
        assert number.sub("N", " ".join(refused.stderr.split())) == number.sub("N", expected)
        server._options = ("--recover",)
        server.start()
        assert job.get().state is State.SUCCEEDED
