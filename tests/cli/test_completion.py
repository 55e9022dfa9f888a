"""Completion scripts, and the completions that a shell gets from them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cli.setups import DBP, Server, environment, output, run
from tests.deadline import DEADLINE


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, tmp_path: Path) -> None:
    script = output("completion", shell)

    assert f"_DBP_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        checked = subprocess.run(
            [shell, "-n", str(tmp_path / "script")],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_script_finds_commands() -> None:
    done = subprocess.run(
        DBP, capture_output=True, text=True, timeout=DEADLINE,
        env=environment(_DBP_COMPLETE="bash_complete", COMP_WORDS="dbp su", COMP_CWORD="1"),
    )  # fmt: skip

    assert done.stdout.split() == ["plain,submit"]


def test_another_shell_is_refused() -> None:
    done = run("completion", "tcsh")

    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr


def completed(*words: str, service: str = "127.0.0.1:1", cwd: Path | None = None) -> list[str]:
    """What bash is offered for the last of these words, which must come without a message."""
    line = " ".join(("dbp", *words))
    done = subprocess.run(
        DBP, capture_output=True, text=True, timeout=DEADLINE, cwd=cwd,
        env=environment(
            service, _DBP_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words))
        ),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    "words",
    [
        ["show"], ["watch"], ["logs"], ["metrics"], ["cancel"], ["pause"], ["resume"],
        ["retry"], ["delete"], ["params"], ["params", "show"],
        ["params", "diff"], ["params", "versions"], ["params", "labels"], ["params", "label"],
        ["params", "pin"], ["params", "unpin"], ["params", "publish"], ["predict"],
        ["evaluate"], ["export"], ["verify"], ["plot"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_ids_of_jobs_are_completed_wherever_a_job_is_named(
    service: str, ended: str, words: list[str], tmp_path: Path
) -> None:
    assert f"plain,{ended}" in completed(*words, ended[:7], service=service, cwd=tmp_path)


def test_a_resource_name_is_completed_too(service: str, ended: str) -> None:
    assert f"plain,jobs/{ended}" in completed("show", f"jobs/{ended[:7]}", service=service)


def test_the_service_on_the_command_line_is_asked(service: str, ended: str) -> None:
    assert f"plain,{ended}" in completed("show", "--service", service, ended[:3])


@pytest.mark.parametrize("words", [["show", "x"], ["params", "pin", "x", "1"]], ids=" ".join)
def test_without_a_service_nothing_is_offered_and_nothing_said(words: list[str]) -> None:
    assert completed(*words) == []


def test_a_frozen_service_does_not_freeze_the_shell(tmp_path: Path) -> None:
    with Server(tmp_path / "state") as server:
        process = psutil.Process(server.pid)
        process.suspend()
        try:
            assert completed("show", "", service=server.address) == []
            assert completed("params", "pin", "x", "", service=server.address) == [
                "plain,latest"
            ]
        finally:
            process.resume()


def test_labels_and_versions_of_the_job_are_completed(service: str, ended: str) -> None:
    job = json.loads(output("show", ended, "--output", "json", service=service))
    newest = job["latest_parameters"]["version"]
    output("params", "label", ended, "completed", "latest", service=service)

    for words in (["pin"], ["unpin"], ["diff"], ["label", "x"]):
        command, *more = words
        found = completed("params", command, ended, *more, "", service=service)
        assert {"plain,latest", "plain,completed", f"plain,{newest}"} <= set(found)
    assert completed("params", "label", ended, "comp", service=service) == ["plain,completed"]
    assert completed("params", ended, "--label", "comp", service=service) == ["plain,completed"]
    found = completed("predict", ended, "rows.csv", "--version", "la", service=service)
    assert found == ["plain,latest"]
    output("params", "label", ended, "completed", "--remove", service=service)


def test_paths_are_completed_beside_jobs(service: str, ended: str, tmp_path: Path) -> None:
    (tmp_path / f"{ended}-run").mkdir()

    found = completed("evaluate", ended[:7], service=service, cwd=tmp_path)
    assert {f"plain,{ended}", f"plain,{ended}-run"} <= set(found)
    assert completed("evaluate", "runs/x", service=service) == ["file,runs/x"]
    assert completed("evaluate", "x") == ["file,x"]
    found = completed("params", "", cwd=tmp_path)
    assert found[0] == "file,"
    assert "plain,versions" in found


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes_a_job(service: str, ended: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(output("completion", "bash"))
    (tmp_path / "dbp").write_text(f'#!/bin/sh\nexec {" ".join(map(shlex.quote, DBP))} "$@"\n')
    (tmp_path / "dbp").chmod(0o755)
    program = (
        f"source script; COMP_WORDS=(dbp watch {ended[:-2]}); COMP_CWORD=2; "
        '_dbp_completion dbp; printf "%s\\n" "${COMPREPLY[@]}"'
    )

    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, timeout=DEADLINE, cwd=tmp_path,
        env={**environment(service), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip

    assert done.stdout.split() == [ended]
