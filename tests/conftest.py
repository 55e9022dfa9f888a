"""For all tests: what they start and write ends with them; messages are those of a program."""

import pytest

from dbp import option_names

pytest_plugins = ["tests.leftovers"]


@pytest.fixture(autouse=True)
def options_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test that ran the command in this process has switched."""
    monkeypatch.setattr(option_names, "_in_command", False)
