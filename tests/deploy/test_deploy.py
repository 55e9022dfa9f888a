"""The files in deploy/ are valid, and name commands and options that exist."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import unknown_words
from tests.deadline import DEADLINE

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the group dev")

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "dbp.service"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
COMPOSE = DEPLOY / "container" / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes" / "dbp.yaml"


def tool(name: str) -> str:
    """Return the path of a program, beside this Python or on the path; skip without it."""
    found = shutil.which(str(Path(sys.executable).parent / name)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (it comes with the group dev, or with systemd)")
    return found


def check(*command: str | Path) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this environment's dbp: systemd looks for the program."""
    dbp = Path(sys.executable).parent / "dbp"
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/dbp/bin/dbp", str(dbp)))
    return path


def test_systemd_accepts_the_unit(unit: Path) -> None:
    assert check(tool("systemd-analyze"), "verify", unit) == ""


def test_the_unit_is_hardened(unit: Path) -> None:
    analyze = tool("systemd-analyze")
    check(analyze, "security", "--offline=true", "--no-pager", "--threshold=25", unit)
    weak = unit.with_name("weak.service")
    weak.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(AssertionError):
        check(analyze, "security", "--offline=true", "--no-pager", "--threshold=25", weak)


def test_the_unit_lets_training_continue_and_keeps_its_files_private() -> None:
    lines = UNIT.read_text().splitlines()
    for line in (
        "KillMode=process",
        "UMask=0077",
        "RuntimeDirectoryPreserve=yes",
        "PrivateTmp=no",
    ):
        assert line in lines


def test_the_containerfile_has_no_findings_of_hadolint() -> None:
    assert check(tool("hadolint"), "--failure-threshold", "info", CONTAINERFILE) == ""


def test_the_containerfile_copies_only_what_containerignore_lets_through() -> None:
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".containerignore").read_text(), re.MULTILINE))
    copied = re.findall(r"^COPY (?!--from)(.+)", CONTAINERFILE.read_text(), re.MULTILINE)
    sources = {source.removeprefix("./") for line in copied for source in line.split()[:-1]}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_builds() -> None:
    if not (builder := shutil.which("podman") or shutil.which("docker")):
        pytest.skip("no podman and no docker")
    if subprocess.run([builder, "info"], capture_output=True, timeout=DEADLINE).returncode:
        pytest.skip(f"{builder} info fails: no engine runs here")
    base = re.findall(r"^FROM (\S+)", CONTAINERFILE.read_text(), re.MULTILINE)[0]
    if subprocess.run([builder, "pull", base], capture_output=True).returncode:
        pytest.skip(f"{base} cannot be pulled here")
    check(builder, "build", "--tag", "dbp-test", "--file", CONTAINERFILE, ROOT)


def test_the_manifest_is_valid_for_kubernetes() -> None:
    found = check(tool("kubernetes-validate"), "--strict", KUBERNETES)
    assert found.count("passed for resource") == len(list(documents(KUBERNETES)))


def test_the_compose_file_refers_to_what_it_defines() -> None:
    compose = next(documents(COMPOSE))
    service = compose["services"]["dbp"]
    assert {secret["source"] for secret in service["secrets"]} == compose["secrets"].keys()
    volumes = {volume.split(":")[0] for volume in service["volumes"]}
    assert {name for name in volumes if not name.startswith(".")} == compose["volumes"].keys()
    assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]) == CONTAINERFILE


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


@functools.cache
def commands() -> list[str]:
    """The commands of dbp in all files."""
    found = re.findall(r"^ExecStart=/opt/dbp/bin/(.*)$", UNIT.read_text(), re.MULTILINE)
    container = CONTAINERFILE.read_text()
    (health,) = re.findall(r"CMD \[\"dbp\", (.*)\]$", container, re.MULTILINE)
    (default,) = re.findall(r"^CMD \[(.*)\]$", container, re.MULTILINE)
    found += [shlex.join(["dbp", *re.findall('"([^"]+)"', part)]) for part in (health, default)]
    found.append(shlex.join(["dbp", *next(documents(COMPOSE))["services"]["dbp"]["command"]]))
    pod = list(documents(KUBERNETES))[1]["spec"]["template"]["spec"]["containers"][0]
    found.append(shlex.join(["dbp", *pod["args"]]))
    execs = [pod[f"{kind}Probe"]["exec"] for kind in ("startup", "readiness", "liveness")]
    execs.append(pod["lifecycle"]["preStop"]["exec"])
    found += [shlex.join(each["command"]) for each in execs]
    comments = "".join(path.read_text() for path in (UNIT, COMPOSE, KUBERNETES))
    found += re.findall(
        r"^# .*?(?:bin/|-- |^#  +)(dbp (?!in |for )[a-z]+.*)$", comments, re.MULTILINE
    )
    return found


def test_commands_and_options_in_the_files_exist() -> None:
    assert len(commands()) >= 9, commands()
    for command in commands():
        assert unknown_words(command) == [], command


@pytest.mark.parametrize(
    "script", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: str(path.relative_to(DEPLOY))
)
def test_shellcheck_has_no_findings(script: Path) -> None:
    assert check(tool("shellcheck"), script) == ""
