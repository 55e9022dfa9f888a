"""The plain classes of the client take the arguments of the asyncio ones, each by its name."""

from __future__ import annotations

import inspect
import re
import sys
import typing

import pytest

import dbp

PAIRS = [
    (dbp.Client, dbp.AsyncClient),
    (dbp.JobHandle, dbp.AsyncJobHandle),
    (dbp.ParameterMirror, dbp.AsyncParameterMirror),
]


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


@pytest.mark.parametrize(("plain", "core"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_clients_have_the_same_methods_and_arguments(plain: type, core: type) -> None:
    own, other = methods(plain), methods(core)

    assert own.keys() <= other.keys()
    for name, signature in own.items():
        assert signature.parameters.items() <= other[name].parameters.items(), name


def test_clients_are_made_with_the_same_arguments() -> None:
    plain, core = (inspect.signature(kind).parameters for kind in PAIRS[0])

    assert plain == core


@pytest.mark.parametrize("kind", [kind for pair in PAIRS for kind in pair])
def test_no_method_takes_arguments_of_any_name(kind: type) -> None:
    for name, signature in methods(kind).items():
        for parameter in signature.parameters.values():
            assert parameter.kind is not parameter.VAR_KEYWORD, name


@pytest.mark.parametrize("kind", [kind for pair in PAIRS for kind in pair])
def test_every_argument_and_answer_has_a_type(kind: type) -> None:
    for name, value in vars(kind).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            signature = inspect.signature(value)
            wanted = {*signature.parameters, "return"} - {"self"}
            assert value.__annotations__.keys() == wanted, name
            assert "Any" not in typing.cast("str", value.__annotations__["return"]), name


@pytest.mark.parametrize("kind", [kind for pair in PAIRS for kind in pair])
def test_every_type_that_a_method_returns_is_exported(kind: type) -> None:
    known = vars(sys.modules[kind.__module__])
    for name, value in vars(kind).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            for word in re.findall(r"\w+", value.__annotations__["return"]):
                found = known.get(word)
                if inspect.isclass(found) and found.__module__.startswith("dbp."):
                    assert word in dbp.__all__, f"{kind.__name__}.{name}"
