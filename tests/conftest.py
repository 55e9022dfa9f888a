"""For all tests: end their processes, remove their files, name options as arguments."""

import pytest

from dbp import option_names

pytest_plugins = ["tests.leftovers"]


@pytest.fixture(autouse=True)
def options_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the names of options after a test that runs the command in this process."""
    monkeypatch.setattr(option_names, "_in_command", False)
