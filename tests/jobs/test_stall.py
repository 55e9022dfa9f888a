"""Detection of stalls, over simulated hours: ranks that step, wait for each other, and stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbp.heartbeat.phase import Phase
from dbp.heartbeat.slots import Beat
from dbp.jobs.stall import ACTIVE_FACTOR, StallDetector
from dbp.launch.launcher import ProcessHealth, Role
from tests.jobs.simulated_ranks import (
    FOREVER,
    HOUR,
    NORMAL,
    POLL,
    STALL,
    Act,
    Plan,
    Rank,
    Simulation,
    at,
    iter_starting,
    nothing,
    step,
    training,
    two,
)


@pytest.mark.parametrize("name", NORMAL)
def test_a_run_that_progresses_is_no_stall_in_two_hours(name: str) -> None:
    assert NORMAL[name]().run(2 * HOUR) is None


@pytest.mark.parametrize("name", NORMAL)
def test_a_run_slowed_tenfold_is_no_stall_in_an_hour(name: str) -> None:
    """The whole machine becomes ten times slower: the detector's polls come late, too."""
    simulation = NORMAL[name]()
    simulation.run(100.0)
    for _ in range(int(HOUR)):
        simulation.now += 1.0 if simulation.now % 7 else 5.0
        for rank in simulation.ranks:  # of ten seconds, nine are lost
            rank.until += 0.9 if rank.until > simulation.now else 0.0
        found = simulation.poll()
        assert found is None or not found.due, found


@pytest.mark.parametrize("hours", [0.1, 8.0])
def test_a_suspended_machine_is_no_stall(hours: float) -> None:
    """Also where the clock went on meanwhile, as in a virtual machine that was paused."""
    simulation = two(lambda _: 30.0)
    simulation.run(200.0)
    for _ in range(20):
        simulation.now += hours * HOUR
        for rank in simulation.ranks:
            rank.until += hours * HOUR
        assert simulation.run(10.0) is None


@pytest.mark.parametrize("culprit", [0, 1, 2])
@pytest.mark.parametrize("after", [30.0, 77.7, 500.2])
def test_a_stopped_rank_is_named_after_the_limit(culprit: int, after: float) -> None:
    simulation = Simulation([Rank(n, training(lambda _: 0.8, nothing)) for n in range(3)])
    assert simulation.run(after) is None
    simulation.ranks[culprit].state = "T"

    found = simulation.run(10 * STALL)

    assert found is not None
    assert found.culprit.rank == culprit
    assert STALL < found.seconds < STALL + 20.0
    assert simulation.now - 5_000.0 - after < STALL + 20.0
    assert f"rank {culprit} (process {100 + culprit}) on node is stopped" in found.message
    assert f"in step {simulation.ranks[culprit].step}, phase" in found.message


def test_a_stopped_process_is_a_condition_before_it_ends_the_attempt() -> None:
    simulation = two()
    simulation.run(100.0)
    simulation.ranks[1].state = "T"

    assert simulation.run(10.0) is None
    early = simulation.poll()
    simulation.ranks[1].state = ""
    simulation.run(5.0)

    assert early is not None
    assert (early.due, early.culprit.rank) == (False, 1)
    assert simulation.poll() is None, "it continues"


def test_a_stopped_link_is_a_condition_that_never_ends_the_attempt() -> None:
    simulation = two()
    link = ProcessHealth(Role.LINK, "node", None, Beat(7, count=1), state="T")
    simulation.others[Role.LINK] = link
    assert simulation.run(HOUR) is None
    stopped = simulation.poll()
    simulation.others[Role.LINK] = replace(link, beat=Beat(77, count=1), state="S")
    simulation.run(5.0)

    assert stopped is not None
    assert (stopped.due, stopped.message) == (
        False, "link (process 7) on node is stopped (state T)",
    )  # fmt: skip
    assert simulation.poll() is None, "another link has replaced it"


@pytest.mark.parametrize("culprit", [0, 1])
def test_an_endless_loop_in_a_layer_names_its_rank(culprit: int) -> None:
    loop = at(70, Act(Phase.COMPUTING, FOREVER))
    plans = [training(lambda _: 0.8, loop if n == culprit else nothing) for n in range(2)]
    simulation = Simulation([Rank(n, plan) for n, plan in enumerate(plans)])

    found = simulation.run(HOUR)

    assert found is not None
    assert found.culprit.rank == culprit, "the other one waits in the exchange, just as busy"
    assert "does not progress (state R) in step 70, phase forward/backward" in found.message


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.EVALUATING, Phase.CHECKPOINT])
def test_an_endless_loop_in_a_phase_that_was_never_completed_is_found_in_the_end(
    phase: Phase,
) -> None:
    simulation = two(rank_0=at(70, Act(phase, FOREVER)))

    assert simulation.run(ACTIVE_FACTOR * STALL) is None
    found = simulation.run(HOUR)

    assert found is not None
    assert found.culprit.rank == 0


@pytest.mark.parametrize("phase", [Phase.READING, Phase.EVALUATING, Phase.CHECKPOINT])
@pytest.mark.parametrize("slow", [1, 10])
def test_an_endless_loop_in_a_phase_that_was_completed_before_is_found_soon(
    phase: Phase, slow: int
) -> None:
    def between(number: int) -> Plan:
        if number == 70:
            yield Act(phase, FOREVER)
        if number % 20 == 0:
            yield from [Act(phase, 2.0 * slow)] * 3

    simulation = two(lambda _: 0.8 * slow, rank_0=between)
    assert simulation.run(70 * 0.8 * slow + 18.0 * slow) is None
    found = simulation.run(HOUR)

    assert found is not None
    assert found.culprit.rank == 0
    assert found.seconds < STALL + 10 * (0.8 + 2.5) * slow + 5.0


@pytest.mark.parametrize("phase", [Phase.EVALUATING, Phase.CHECKPOINT])
def test_the_first_visit_to_a_phase_may_compute_long_after_some_reports(phase: Phase) -> None:
    def between(number: int) -> Plan:
        if number == 20:
            yield from [Act(phase, 2.0)] * 5
            yield Act(phase, 10 * STALL)

    assert two(rank_0=between).run(HOUR) is None


def test_a_completed_phase_that_moves_bytes_may_take_longer_the_next_time() -> None:
    def between(number: int) -> Plan:
        if number % 20 == 0:
            yield Act(Phase.CHECKPOINT, 0.5 if number < 70 else 20 * STALL, moves=True)

    assert two(rank_0=between).run(HOUR) is None


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.READING, Phase.EVALUATING])
def test_a_rank_that_waits_for_a_dead_file_system_is_found(phase: Phase) -> None:
    simulation = two(rank_0=at(70, Act(phase, FOREVER, active=False, state="D")))

    found = simulation.run(200.0)

    assert found is not None
    assert found.culprit.rank == 0
    assert "(state D)" in found.message


def test_ranks_that_wait_for_each_other_have_no_culprit() -> None:
    """The exchange itself hangs: all have made the same calls."""
    dead = at(70, Act(Phase.EXCHANGE, FOREVER, waits=True))
    found = two(between=dead).run(HOUR)

    assert found is not None
    assert found.culprit.rank is None
    assert found.message == "all ranks on node wait for each other in step 70"


def test_a_rank_stopped_within_the_exchange_is_named_by_its_state() -> None:
    simulation = two(between=at(70, Act(Phase.EXCHANGE, FOREVER, waits=True)))
    simulation.run(70.0)
    simulation.ranks[1].state = "T"

    found = simulation.run(HOUR)

    assert found is not None
    assert found.culprit.rank == 1


@pytest.mark.parametrize("state", ["S", "D"])
def test_a_rank_that_never_joins_is_named_and_not_those_that_wait_for_it(state: str) -> None:
    """All have made as many collective calls: none."""
    ranks = [Rank(n, iter([Act(Phase.EXCHANGE, FOREVER, False, state="S")])) for n in range(3)]
    ranks[2].plan = iter([Act(Phase.STARTING, FOREVER, active=False, state=state)])

    found = Simulation(ranks).run(HOUR)

    assert found is not None
    assert found.culprit.rank == 2


def test_rank_0_may_wait_for_the_service_longer_than_a_short_limit() -> None:
    waits = at(20, Act(Phase.PUBLISHING, 30.0, active=False, state="S"))
    plans = [training(lambda _: 0.8, waits), training(lambda _: 0.8, nothing)]

    ranks = [Rank(n, plan) for n, plan in enumerate(plans)]

    assert Simulation(ranks, stall_seconds=3.0).run(200.0) is None


def test_a_rank_stopped_before_it_has_joined_is_named() -> None:
    def joins() -> Plan:
        yield Act(Phase.STARTING, 1.0)
        yield Act(Phase.EXCHANGE, 0.0)
        yield Act(Phase.EXCHANGE, FOREVER)

    simulation = Simulation([Rank(0, joins()), Rank(1, iter_starting(FOREVER))])
    simulation.run(0.5)
    simulation.ranks[1].state = "T"

    found = simulation.run(100.0)

    assert found is not None
    assert found.culprit.rank == 1
    assert found.message.endswith("is stopped (state T) in phase starting")


@pytest.mark.parametrize("role", [Role.SUPERVISOR, Role.COMMAND])
def test_a_stopped_supervisor_or_mpirun_is_named_though_ranks_train(role: Role) -> None:
    simulation = two()
    simulation.run(100.0)
    stopped = simulation.others[role]
    simulation.others[role] = ProcessHealth(role, "node", None, stopped.beat, state="T")

    assert simulation.run(30.0) is None
    early = simulation.poll()
    found = simulation.run(HOUR)

    assert early is not None
    assert (early.due, early.culprit.role) == (False, role)
    assert found is not None
    assert (found.due, found.culprit.role, found.culprit.rank) == (True, role, None)
    assert found.seconds < STALL + 10.0, "since it was stopped, not since the run began"
    assert f"{role} (process {stopped.beat.pid}) on node is stopped" in found.message


def test_an_ended_mpirun_is_the_supervisor_s_to_handle() -> None:
    simulation = two()
    simulation.run(100.0)
    ended = ProcessHealth(Role.COMMAND, "node", None, Beat(9), state="X")
    simulation.others[Role.COMMAND] = ended
    for rank in simulation.ranks:
        rank.act, rank.until, rank.state = Act(Phase.ENDING), FOREVER, "X"

    assert simulation.run(10 * STALL) is None
    assert simulation.poll() is None


def test_a_rank_that_never_starts_is_found() -> None:
    simulation = two()
    dead = ProcessHealth(Role.RANK, "node", 1)
    detector = StallDetector(STALL)
    found = None
    while found is None:
        simulation.now += POLL
        simulation.ranks[0].advance(simulation.now, simulation.ranks)
        found = detector.observe(simulation.now, [dead])

    assert found.message == "rank 1 on node has not started"
    assert STALL < found.seconds < 4 * STALL


def test_a_rank_that_ended_first_is_no_stall() -> None:
    """At the end of a run the ranks exit one after the other."""

    def ends(seconds: float, state: str) -> Plan:
        yield from step(1, 1.0)
        yield from step(2, 1.0)
        yield Act(Phase.ENDING, seconds, active=False, state="S")
        yield Act(Phase.ENDING, FOREVER, active=False, state=state)

    simulation = Simulation([Rank(0, ends(60.0, "S")), Rank(1, ends(1.0, "Z"))])

    assert simulation.run(90.0) is None
    found = simulation.run(HOUR)

    assert found is not None
    assert found.culprit.rank == 0


def test_the_limit_grows_with_the_median_step() -> None:
    simulation = two(lambda _: 30.0)
    simulation.run(200.0)
    simulation.ranks[0].state = "T"

    found = simulation.run(HOUR)

    assert found is not None
    assert found.seconds > STALL + 10 * 29.0
