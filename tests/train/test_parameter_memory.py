"""Parameters that all ranks share: who writes them when, and who sees what."""

from __future__ import annotations

import time

import numpy as np
import pytest

from dbp.errors import InvalidInput
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import MESSAGES, Communicator, SoloCommunicator
from dbp.parallel.exchange import make_exchange
from dbp.parallel.threads import ThreadCommunicator, run_threads
from dbp.train.parameter_memory import ParameterMemory

SIZE, STATE = 70_000, 3
SLOW = 0.1


def make(communicator: Communicator, *, share: bool = True) -> ParameterMemory:
    exchange = make_exchange(
        communicator, SIZE, 1, dtype=np.float32, numerics="exact", lanes=4, mode="sharded"
    )
    zeros = Parameters.zeros({"w": (SIZE,), "mean": (STATE,)}, np.float32)
    return ParameterMemory(zeros, SIZE, communicator, exchange, share=share)


def test_all_are_overwritten_after_the_last_rank_has_read_and_before_the_first_reads() -> None:
    def main(communicator: Communicator) -> tuple[float, float, bool]:
        memory = make(communicator)
        vector = memory.parameters.vector

        def write() -> None:
            time.sleep(SLOW)
            vector[:] = 7

        if communicator.rank == 1:
            time.sleep(SLOW)
        before = float(vector.sum())
        memory.assign(write)
        return before, float(vector.min()), memory.has_changed()

    assert run_threads(3, main) == [(0.0, 7.0, False)] * 3


def test_ranks_that_start_with_other_numbers_have_those_of_rank_0() -> None:
    def main(communicator: Communicator) -> bytes:
        memory = make(communicator)
        rng = np.random.default_rng(communicator.rank)

        def write(parameters: Parameters) -> None:
            rng.random(out=parameters.vector, dtype=np.float32)

        memory.initialize(write)
        return memory.parameters.vector.tobytes()

    expected = np.random.default_rng(0).random(SIZE + STATE, dtype=np.float32).tobytes()
    assert run_threads(3, main) == [expected] * 3


def test_an_error_of_the_rank_that_writes_is_raised_on_all() -> None:
    def fail() -> None:
        raise InvalidInput("no such parameters")

    def main(communicator: Communicator) -> str:
        memory = make(communicator)
        with pytest.raises(InvalidInput) as caught:
            memory.assign(fail)
        return str(caught.value)

    assert run_threads(3, main) == ["no such parameters"] * 3


def test_ranks_see_each_others_updates_and_each_notices_a_change_of_its_own_part() -> None:
    def main(communicator: Communicator) -> tuple[list[float], bool, bool]:
        memory = make(communicator)
        own = slice(*[(0, 32_768), (32_768, 65_536), (65_536, SIZE)][communicator.rank])
        if communicator.rank == 2:
            time.sleep(SLOW)
        memory.trained[own] = communicator.rank + 1
        memory.set_state(np.full(STATE, 5 + communicator.rank, np.float32))
        memory.updated()
        seen = memory.parameters.vector[[0, 40_000, SIZE - 1, SIZE]].tolist()
        sound = not memory.has_changed()
        communicator.barrier()
        if communicator.rank == 0:
            memory.trained[40_000] += 1
            memory.state[1] += 1
        communicator.barrier()
        return seen, sound, not memory.has_changed()

    found = run_threads(3, main)

    seen = [1.0, 2.0, 3.0, 5.0]
    assert found == [(seen, True, False), (seen, True, False), (seen, True, True)]


def test_with_too_little_memory_for_them_each_rank_has_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the exchange needs is there; the parameters do not fit beside it."""
    asked: list[str] = []

    def can_share(self: ThreadCommunicator, size: int, otherwise: str = MESSAGES) -> bool:
        asked.append(otherwise)
        return otherwise == MESSAGES

    monkeypatch.setattr(ThreadCommunicator, "can_share", can_share)

    assert run_threads(2, lambda each: make(each).shared) == [False, False]
    assert {text for text in asked if "copy of the parameters" in text}


@pytest.mark.parametrize("ranks", [1, 3])
def test_where_nothing_can_be_shared_each_rank_has_its_own(ranks: int) -> None:
    def main(communicator: Communicator) -> tuple[int, int]:
        memory = make(communicator)
        memory.assign(lambda: memory.parameters.vector.fill(3))
        first = memory.check_value()
        memory.parameters.vector[-1] += 1
        return first, memory.check_value()

    if ranks == 1:
        found = [main(SoloCommunicator())]
    else:
        found = run_threads(ranks, main, shares_memory=False)

    assert len(set(found)) == 1
    assert found[0][0] != found[0][1]
