"""The names that `import dbp` provides, and the cost of the import."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest

import dbp
from dbp import plugin
from dbp.registry import Group, component_class, kinds
from tests.deadline import DEADLINE

EXAMPLE = Path(__file__).parent / "plugin_example" / "dbp_example"


def test_every_public_name_is_there() -> None:
    assert dbp.__all__ == sorted(dbp.__all__)
    for name in dbp.__all__:
        assert getattr(dbp, name) is not None
    assert set(dbp.__all__) == set(dbp._HOMES) | {"__version__", "errors", "plugin", "testing"}
    assert set(dir(dbp)) == set(dbp.__all__) | set(dbp._OPTIONAL)


def test_names_come_from_where_they_are_written() -> None:
    for name, module in (dbp._HOMES | dbp._OPTIONAL).items():
        assert getattr(dbp, name).__module__ == module


def test_the_docstring_lists_every_public_name() -> None:
    listed = set(re.findall(r"\w+", dbp.__doc__ or ""))

    assert (set(dbp.__all__) | set(dbp._OPTIONAL)) - {"__version__"} <= listed
    assert len((dbp.__doc__ or "").splitlines()) <= 40  # one screen of help(dbp)


def test_an_unknown_name_is_an_attribute_error_with_the_nearest_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clint', did you mean 'Client'"):
        getattr(dbp, "Clint")  # noqa: B009


def test_base_classes_of_plug_ins_are_those_of_the_packages() -> None:
    bases = {
        "Layer", "Loss", "Metric", "Optimizer", "Schedule", "Initializer", "Reader", "Sink",
    }  # fmt: skip

    assert set(plugin.__all__) >= bases
    for group in get_args(Group):
        component = component_class(group, kinds(group)[0])
        assert any(issubclass(component, getattr(plugin, base)) for base in bases), group
    for name in bases:
        assert name in (plugin.__doc__ or "")


def test_the_example_plug_in_imports_the_documented_modules_only() -> None:
    source = [path.read_text() for path in EXAMPLE.glob("*.py")]
    modules = {m for text in source for m in re.findall(r"^from (dbp\S*) import", text, re.M)}

    assert modules == {"dbp.plugin"}


def test_importing_dbp_loads_next_to_nothing() -> None:
    program = "import dbp, sys; print(*(m for m in sys.modules if m.startswith('dbp')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; assert 'numpy' not in sys.modules"],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("dbp\n", "")


def test_without_scikit_learn_only_its_estimators_are_missing() -> None:
    """The import fails as without the package; all else works, and says what to type."""
    program = """
import sys
sys.modules["sklearn"] = None
from dbp import *
import dbp, pydoc
assert "DBPClassifier" not in dir(dbp)
assert "load" in pydoc.render_doc(dbp, renderer=pydoc.plaintext)
for name in ("DBPClassifier", "DBPRegressor"):
    try:
        getattr(dbp, name)
    except dbp.errors.MissingDependency as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE
    )

    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert re.fullmatch(
        r"DBPClassifier and DBPRegressor need scikit-learn 1.6 or newer \(.*sklearn.*\): "
        r"pip install 'dbp\[sklearn\]'",
        first,
    )


def test_the_version_is_that_of_the_distribution() -> None:
    assert dbp.__version__ == version("dbp")
