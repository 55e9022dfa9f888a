from __future__ import annotations

import pytest

from dbp.errors import DataChanged, InvalidData, InvalidInput
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.faults.agreement import all_or_none, check_agreement, value_of_first


def test_ranks_with_equal_facts_agree() -> None:
    run_threads(4, lambda c: check_agreement({"spec": "a", "samples": 3}, c))


def test_every_rank_raises_with_all_differences() -> None:
    heard: dict[int, str] = {}

    def main(communicator: Communicator) -> None:
        rank = communicator.rank
        try:
            facts = {"spec": "b" if rank == 2 else "a", "samples": 4 if rank == 1 else 3}
            check_agreement(facts, communicator)
        except InvalidInput as error:
            heard[rank] = str(error)

    run_threads(3, main)

    assert len(heard) == 3
    assert len(set(heard.values())) == 1
    assert "rank 1 has another samples than rank 0; rank 2 has another spec" in heard[0]


def test_all_get_their_own_result_when_all_succeed() -> None:
    assert run_threads(3, lambda c: all_or_none(c, lambda: c.rank * 10)) == [0, 10, 20]


@pytest.mark.parametrize("failing", [{0}, {1}, {1, 2}, {0, 1, 2}])
def test_a_failure_on_any_rank_is_raised_on_all(failing: set[int]) -> None:
    heard: dict[int, str] = {}

    def main(communicator: Communicator) -> None:
        def action() -> int:
            if communicator.rank in failing:
                raise InvalidData(f"größe {communicator.rank}")
            return 1

        try:
            all_or_none(communicator, action)
        except InvalidInput as error:
            heard[communicator.rank] = str(error)

    run_threads(3, main)

    first = min(failing)
    message = "größe 0" if first == 0 else f"on rank {first}: größe {first}"
    assert heard == dict.fromkeys(range(3), message)


def test_data_that_changed_are_told_apart_on_every_rank() -> None:
    kinds: dict[int, type[InvalidInput]] = {}

    def main(communicator: Communicator) -> None:
        def action() -> None:
            if communicator.rank == 0:
                raise DataChanged("other rows")

        with pytest.raises(InvalidInput, match="other rows") as caught:
            all_or_none(communicator, action)
        kinds[communicator.rank] = type(caught.value)

    run_threads(3, main)

    assert kinds == dict.fromkeys(range(3), DataChanged)


@pytest.mark.parametrize("value", [None, {"step": 3, "texts": ["ü", ""]}, [0.1, float("inf")]])
def test_every_rank_gets_the_value_of_rank_0(value: object) -> None:
    def main(communicator: Communicator) -> object:
        return value_of_first(communicator, value if communicator.rank == 0 else [1] * 99)

    assert run_threads(3, main) == [value] * 3
