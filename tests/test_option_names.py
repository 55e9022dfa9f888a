"""Messages name options as their reader writes them: flags for the command, else arguments."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dbp import option_names
from dbp.option_names import either, option, speak_of_flags, speaks_of_flags
from tests.deadline import DEADLINE

PACKAGE = Path(__file__).parents[1] / "dbp"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs the command."""
    monkeypatch.setattr(option_names, "_in_command", False)
    speak_of_flags()


@pytest.mark.parametrize("test", [1, 2])
def test_the_switch_of_one_test_ends_with_it(test: int) -> None:
    assert not speaks_of_flags(), test
    speak_of_flags()


def test_messages_for_programs_name_arguments() -> None:
    assert option("new_data") == "new_data=True"
    assert option("max_seconds", "SECONDS") == "max_seconds=SECONDS"
    assert option("schedule", "keep") == "schedule='keep'"
    assert either("--service", "address") == "address"


def test_messages_for_users_of_the_command_name_flags(command: None) -> None:
    assert option("new_data") == "--new-data"
    assert option("max_seconds", "SECONDS") == "--max-seconds SECONDS"
    assert option("schedule", "keep") == "--schedule keep"
    assert either("--service", "address") == "--service"


PROGRAM = """
import dbp
from pathlib import Path
from dbp.train.report.run_folder import RunFolder
try:
    dbp.Client("127.0.0.1:1").job("x")
except dbp.errors.Unavailable as error:
    print(error)
RunFolder.prepare(Path("run"), {}).close()
try:
    RunFolder.prepare(Path("run"), {})
except dbp.errors.Conflict as error:
    print(error)
"""


def test_the_same_errors_in_a_program_and_in_the_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True,
            timeout=DEADLINE,
        )  # fmt: skip

    program = run("-c", PROGRAM)
    show = run("-m", "dbp", "show", "x", "--service", "127.0.0.1:1")
    spec = PACKAGE / "cli" / "digits.toml"
    train = run("-m", "dbp", "train", str(spec), "--run", "run")

    assert program.returncode == 0, program.stderr
    assert 'name another with address="HOST:PORT"' in program.stdout
    assert "choose another folder, or add overwrite=True to replace it" in program.stdout
    assert "--" not in program.stdout
    assert "name another with --service HOST:PORT" in show.stderr
    assert "add --overwrite to replace it, or continue it with: dbp train" in train.stderr
    assert (show.returncode, train.returncode) == (3, 2)


@pytest.mark.parametrize("package", ["client", "train", "rpc"])
def test_no_flag_stands_in_a_text_of_the_library_itself(package: str) -> None:
    """Flags come from ``option`` or ``either``, unless they follow a whole command."""
    for path in sorted((PACKAGE / package).rglob("*.py")):
        for text in _texts(ast.parse(path.read_text())):
            assert not re.search(r"^(?!.*\bdbp [a-z]).*--[a-z]{2}", text), f"{path}: {text}"


def _texts(tree: ast.Module) -> list[str]:
    """Texts of a module, but for docstrings and those of ``either``; {} for values in them."""
    skipped: set[int] = set()
    found = []
    for node in ast.walk(tree):  # outer nodes come first
        if _is_docstring(node) or _is_either(node):
            skipped.update(id(part) for part in ast.walk(node))
        elif id(node) not in skipped and isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in ast.walk(node))
            parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
            found.append("".join(map(str, parts)))
        elif id(node) not in skipped and isinstance(node, ast.Constant):
            found.append(str(node.value))
    return found


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_either(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "either"
