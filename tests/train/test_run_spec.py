"""The components of a resolved spec as training uses them."""

from __future__ import annotations

import dataclasses

import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.train.run_spec import run_spec
from tests.train.setups import document


class LooksLikeALoss:
    """A plug-in's class that has methods of a loss, and is not derived from Loss."""

    def target_kind(self) -> str:
        return "class"

    def activation(self) -> str:
        return ""

    def default_metrics(self) -> tuple[str, ...]:
        return ()

    def check_output(self, output_shape: tuple[int, ...]) -> None:
        pass

    def needed_range(self, output_shape: tuple[int, ...]) -> None:
        return None

    def class_count(self, output_shape: tuple[int, ...]) -> int:
        return 3


def test_a_run_has_the_components_and_the_digest_of_its_spec() -> None:
    resolved = resolve(document())

    found = run_spec(resolved)

    assert dataclasses.asdict(found) == dataclasses.asdict(resolved)


def test_a_component_that_is_not_derived_from_the_class_of_its_group_is_refused() -> None:
    resolved = dataclasses.replace(resolve(document()), loss=LooksLikeALoss())

    with pytest.raises(InvalidSpec, match=r"^model\.loss: the plug-in LooksLikeALoss must be "):
        run_spec(resolved)
