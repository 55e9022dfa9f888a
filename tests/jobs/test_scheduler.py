from __future__ import annotations

import random

import pytest

from dbp.errors import ResourceExhausted
from dbp.jobs.job_queue import Delay, JobQueue


def test_jobs_start_in_order_as_slots_become_free() -> None:
    queue = JobQueue(4, 10)
    for name, workers in (("a", 3), ("b", 2), ("c", 1)):
        queue.push(name, workers)

    assert queue.take() == "a"
    assert queue.take() is None, "c would fit, but b is before it"
    queue.remove("a")
    assert [queue.take(), queue.take(), queue.take()] == ["b", "c", None]
    assert queue.free == 1


def test_the_reason_names_the_need_the_free_slots_and_the_place() -> None:
    queue = JobQueue(2, 50)
    queue.hold("running", 1)
    for place in range(1, 24):
        queue.push(f"job{place}", 2)

    assert queue.waiting_reason("job1") == "needs 2 slots, 1 free; 1st in the queue"
    assert queue.waiting_reason("job12").endswith("12th in the queue")
    assert queue.waiting_reason("job22").endswith("22nd in the queue")
    queue.remove("job1")
    assert queue.waiting_reason("job2").endswith("1st in the queue")
    assert queue.waiting_reason("running") == ""


def test_a_job_larger_than_all_slots_lets_others_pass_and_says_so() -> None:
    queue = JobQueue(2, 10)
    queue.push("giant", 5)
    queue.push("small", 1)

    assert queue.take() == "small"
    assert "this service has 2" in queue.waiting_reason("giant")


def test_a_job_put_back_is_the_first_again() -> None:
    queue = JobQueue(2, 10)
    queue.push("a", 2)
    queue.push("b", 1)
    queue.take()

    queue.put_back("a")

    assert queue.free == 2
    assert [queue.take(), queue.take()] == ["a", None]


def test_positions_follow_every_join_and_leave() -> None:
    queue = JobQueue(1, 100)
    chance = random.Random(7)
    waiting: list[str] = []
    places: dict[str, int] = {}
    for step in range(300):
        if waiting and chance.random() < 0.45:
            name = chance.choice([waiting[0], chance.choice(waiting)])
            waiting.remove(name)
            if name == queue.take():
                queue.push(name, 1)  # its attempt failed: it returns to its place
                waiting.append(name)
            else:
                queue.put_back(next(iter(queue._holding)))
                queue.remove(name)
        else:
            name = f"job{step}"
            places[name] = step
            queue.push(name, 1)
            waiting.append(name)
        waiting.sort(key=places.__getitem__)
        for position, name in enumerate(waiting, 1):
            assert f"; {position}" in queue.waiting_reason(name)


def test_showing_a_submitted_job_compares_few_others() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal compared
            compared += 1
            return super().__hash__()

    queue = JobQueue(1, 100_000)
    queue.hold("running", 1)
    for number in range(1_000):
        queue.push(Name(f"job{number}"), 1)
        queue.waiting_reason(f"job{number}")

    assert compared < 20 * 1_000


def test_a_full_queue_refuses() -> None:
    queue = JobQueue(1, 1)
    queue.push("a", 1)

    with pytest.raises(ResourceExhausted, match="1 job in it"):
        queue.check_length()


def test_a_job_that_comes_back_waits_before_those_that_came_after_it() -> None:
    queue = JobQueue(2, 10)
    for name in ("a", "b", "c", "d"):
        queue.push(name, 1)
    assert [queue.take(), queue.take(), queue.take()] == ["a", "b", None]

    queue.push("b", 1)
    queue.push("a", 1)

    assert [queue.take(), queue.take()] == ["a", "b"]
    queue.remove("a")
    assert queue.take() == "c"


def test_a_job_whose_next_attempt_is_not_due_is_passed_over_and_says_when() -> None:
    now = 100.0
    queue = JobQueue(1, 10, lambda: now)
    delay = Delay(2, 104.0)
    queue.push("a", 1, delay)
    queue.push("b", 1)

    assert queue.waiting_reason("a") == "attempt 2 starts in 4 s"
    assert queue.take() == "b"
    queue.remove("b")
    assert queue.take() is None
    queue.end_delay("a", Delay(2, 99.0))  # of an earlier wait
    assert queue.take() is None
    queue.end_delay("a", delay)
    assert queue.take() == "a"


def test_a_job_that_comes_back_has_no_slots() -> None:
    queue = JobQueue(2, 10)
    queue.hold("a", 2)

    queue.push("a", 2, Delay(2, 1.0))

    assert queue.free == 2
