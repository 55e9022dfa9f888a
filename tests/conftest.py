"""For all tests: end their processes, remove their files, name options as arguments."""

import numpy as np
import pytest

from dbp import option_names
from dbp.optim.adam_kernel import adam_kernel

pytest_plugins = ["tests.leftovers"]


def pytest_sessionstart() -> None:
    """Compile Adam's rule before a test that starts no process would."""
    adam_kernel(np.dtype(np.float32))


@pytest.fixture(autouse=True)
def options_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the names of options after a test that runs the command in this process."""
    monkeypatch.setattr(option_names, "_in_command", False)
