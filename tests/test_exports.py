"""The names that `import dbp` hands out, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import dbp
from tests.deadline import DEADLINE


def test_every_public_name_is_there() -> None:
    assert dbp.__all__ == sorted(dbp.__all__)
    for name in dbp.__all__:
        assert getattr(dbp, name) is not None
    assert set(dbp.__all__) == set(dbp._HOMES) | {"__version__"}
    assert set(dir(dbp)) >= set(dbp.__all__)


def test_names_come_from_where_they_are_written() -> None:
    for name, module in dbp._HOMES.items():
        assert getattr(dbp, name).__module__ == module


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dbp' has no attribute 'Clint'"):
        dbp.Clint  # noqa: B018


def test_importing_dbp_loads_next_to_nothing() -> None:
    program = "import dbp, sys; print(*(m for m in sys.modules if m.startswith('dbp')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; assert 'numpy' not in sys.modules"],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("dbp\n", "")


def test_the_version_is_that_of_the_distribution() -> None:
    assert dbp.__version__ == version("dbp")
