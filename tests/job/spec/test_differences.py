"""Specs are compared value by value, with the defaults of fields that one of them lacks."""

from __future__ import annotations

from typing import Any

from dbp.job.spec.differences import spec_differences
from dbp.job.spec.resolve import resolve
from tests.train.fit_setups import spec

DATA = {"data": {"train": "digits"}}


def document(**changes: Any) -> dict[str, Any]:
    return dict(resolve(spec(epochs=6) | DATA | changes).document)


def test_equal_specs_have_no_differences() -> None:
    assert spec_differences([document(), document(), document()]) == []


def test_a_field_has_the_values_of_all_specs() -> None:
    (found,) = spec_differences([document(), document(), document(seed=4)])

    assert (found.path, found.values, found.texts) == ("seed", (3, 3, 4), ("3", "3", "4"))


def test_a_field_that_one_spec_lacks_has_its_default() -> None:
    older = document()
    del older["train"]["lanes"]

    assert spec_differences([document(), older]) == []


def test_layers_differ_by_their_places() -> None:
    fewer = document()
    fewer["model"]["layers"] = fewer["model"]["layers"][:3]

    found = spec_differences([document(), fewer])

    assert found
    assert all(d.path.startswith("model.layers[3].") for d in found)
    assert {d.texts[1] for d in found} == {"not set"}


def test_a_field_of_a_newer_dbp_is_compared_as_it_is() -> None:
    newer = document() | {"unheard_of": 5}

    (found,) = spec_differences([document(), newer])

    assert (found.path, found.texts) == ("unheard_of", ("not set", "5"))
