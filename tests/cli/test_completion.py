"""Completion scripts, and what a shell gets that uses them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.setups import DBP, environment, output, run
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
