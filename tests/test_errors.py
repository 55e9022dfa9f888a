"""The tree of exceptions and the text of violations."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

from dbp import errors
from dbp.errors import DbpError, InvalidSpec, Violation, alternatives, nearest


def test_the_tree_in_the_docstring_is_complete() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    defined = {
        name
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, DbpError) and cls is not DbpError
    }

    assert drawn == defined


def test_every_error_reaches_another_process() -> None:
    """Pools of processes pickle what a task raises."""
    kinds = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    for kind in [cls for cls in kinds if issubclass(cls, DbpError)]:
        error = kind("a text") if kind is not InvalidSpec else broken_spec()
        error.metadata["row"] = "3"
        for copied in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
            assert type(copied) is kind
            assert (str(copied), vars(copied)) == (str(error), vars(error))


def broken_spec() -> InvalidSpec:
    return InvalidSpec([Violation("train.epochs", "must be >= 1", line=3)], "job.toml")


def test_one_violation_is_one_line_with_source_and_line() -> None:
    violation = Violation("model.layers[2].units", "must be >= 1, got 0", line=12)

    assert str(InvalidSpec([violation])) == "model.layers[2].units: must be >= 1, got 0"
    assert str(InvalidSpec([violation], "job.toml")).startswith("job.toml:12: model.layers[2]")


def test_a_violation_of_the_whole_has_no_path() -> None:
    assert str(InvalidSpec([Violation("", "must be a table")], "a.json")) == (
        "a.json: must be a table"
    )


def test_many_violations_are_counted_and_cut() -> None:
    violations = [Violation(f"x{i}", "bad") for i in range(60)]

    lines = str(InvalidSpec(violations, "job.toml")).splitlines()

    assert lines[0] == "job.toml: 60 problems"
    assert len(lines) == 52
    assert lines[-1] == "  ... and 10 more"
    assert len(InvalidSpec(violations).violations) == 60


def test_the_nearest_name_is_proposed_only_if_it_is_near() -> None:
    assert nearest("adm", ["sgd", "adam"]) == ", did you mean 'adam'?"
    assert nearest("xyz", ["sgd", "adam"]) == ""
    assert nearest("x" * 10**6, ["sgd"]) == ""
    assert alternatives("adm", ["adam"], "known") == ", did you mean 'adam'? known: adam"
    assert alternatives("q", [], "known") == "; known: none"
