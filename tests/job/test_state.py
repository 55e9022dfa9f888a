"""The state machine, total over states and events."""

from __future__ import annotations

import dataclasses

import pytest

from dbp.errors import WrongState
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.state import Event, EventKind, Job, State, Version
from dbp.job.transitions import advance

E, S = EventKind, State
STALLED = Condition(ConditionKind.STALLED, "no step for 63 s", 190.0)

# State -> event -> next state; every pair that is not here is refused.
MOVES: dict[State, dict[EventKind, State]] = {
    S.QUEUED: {
        E.STARTED: S.STARTING,
        E.PAUSED: S.PAUSED,
        E.FAILED: S.FAILED,
        E.CANCELLED: S.CANCELLED,
    },
    S.STARTING: {
        E.RUNNING: S.RUNNING,
        E.REQUEUED: S.QUEUED,
        E.PAUSING: S.PAUSING,
        E.CANCELLING: S.CANCELLING,
        E.SUCCEEDED: S.SUCCEEDED,
        E.FAILED: S.FAILED,
        E.CANCELLED: S.CANCELLED,
        E.PARAMETERS_PUBLISHED: S.STARTING,
        E.CHECKPOINTS_DAMAGED: S.STARTING,
    },
    S.RUNNING: {
        E.REQUEUED: S.QUEUED,
        E.PAUSING: S.PAUSING,
        E.CANCELLING: S.CANCELLING,
        E.SUCCEEDED: S.SUCCEEDED,
        E.FAILED: S.FAILED,
        E.CANCELLED: S.CANCELLED,
        E.PARAMETERS_PUBLISHED: S.RUNNING,
        E.CHECKPOINTS_DAMAGED: S.RUNNING,
    },
    S.PAUSING: {
        E.REQUEUED: S.QUEUED,
        E.PAUSED: S.PAUSED,
        E.CANCELLING: S.CANCELLING,
        E.SUCCEEDED: S.SUCCEEDED,
        E.FAILED: S.FAILED,
        E.CANCELLED: S.CANCELLED,
        E.PARAMETERS_PUBLISHED: S.PAUSING,
        E.CHECKPOINTS_DAMAGED: S.PAUSING,
    },
    S.PAUSED: {E.RESUMED: S.QUEUED, E.FAILED: S.FAILED, E.CANCELLED: S.CANCELLED},
    S.CANCELLING: {
        E.SUCCEEDED: S.SUCCEEDED,
        E.FAILED: S.FAILED,
        E.CANCELLED: S.CANCELLED,
        E.PARAMETERS_PUBLISHED: S.CANCELLING,
        E.CHECKPOINTS_DAMAGED: S.CANCELLING,
    },
    S.SUCCEEDED: {E.DELETED: S.SUCCEEDED},
    S.FAILED: {E.RETRIED: S.QUEUED, E.DELETED: S.FAILED},
    S.CANCELLED: {E.RETRIED: S.QUEUED, E.DELETED: S.CANCELLED},
}


def job(state: State) -> Job:
    return Job(
        id="j1",
        spec={"name": "x"},
        spec_digest="d",
        workers=2,
        state=state,
        create_time=100.0,
        attempt=0 if state is S.QUEUED else 1,
        waiting_reason="needs 2 slots" if state is S.QUEUED else "",
        end_time=150.0 if state.terminal else None,
    )


# In every state, which stays.
LABELS = {E.LABEL_MOVED, E.VERSION_PINNED, E.VERSION_UNPINNED}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", sorted(LABELS))
def test_labels_and_pins_are_allowed_in_every_state_and_change_nothing_else(
    state: State, kind: EventKind
) -> None:
    assert advance(job(state), Event(kind, 200.0, version=3)) == job(state)


PAIRS = [(state, kind) for state in State for kind in EventKind if kind not in LABELS]


@pytest.mark.parametrize(("state", "kind"), PAIRS)
def test_every_pair_of_state_and_event_is_decided(state: State, kind: EventKind) -> None:
    before = job(state)
    expected = MOVES[state].get(kind)

    if expected is None:
        with pytest.raises(WrongState, match="job j1"):
            advance(before, Event(kind, 200.0))
    else:
        after = advance(before, Event(kind, 200.0))

        assert after.state is expected
        assert after.waiting_reason == ""
        ended = 200.0 if kind is not E.DELETED else 150.0
        assert after.end_time == (ended if expected.terminal else None)
        assert after.start_time == (200.0 if kind is E.STARTED else None)
        assert after.attempt == before.attempt + (kind is E.STARTED)
    assert before == job(state)


def test_terminal_states_are_those_that_only_a_retry_leaves() -> None:
    left = {s: {kind for kind, to in MOVES[s].items() if to is not s} for s in State}

    assert {s for s in State if s.terminal} == {s for s in State if left[s] <= {E.RETRIED}}


def test_a_requeued_job_keeps_why_its_attempt_failed_until_it_ends() -> None:
    failure = Failure(FailureReason.RANK_SIGNAL, "rank 1 was killed", signal=9, attempt=1)
    change = {"previous_failure": failure, "failures": 1, "retry_time": 202.0}
    run = dataclasses.replace(job(S.RUNNING), conditions=(STALLED,), report_time=190.0)

    queued = advance(run, Event(E.REQUEUED, 200.0, change))
    started = advance(queued, Event(E.STARTED, 203.0))
    ended = advance(started, Event(E.SUCCEEDED, 204.0))

    assert (queued.state, queued.attempt, queued.retry_time) == (S.QUEUED, 1, 202.0)
    assert (queued.conditions, queued.report_time) == ((), None)
    assert queued.previous_failure == started.previous_failure == failure
    assert (started.attempt, started.retry_time) == (2, None)
    assert (ended.previous_failure, ended.failures) == (None, 1)


def test_a_retried_job_counts_its_failures_from_zero() -> None:
    failure = Failure(FailureReason.RANK_EXCEPTION, "ValueError: x", step=7, attempt=3)
    failed = dataclasses.replace(
        job(S.FAILED), failure=failure, failures=3, exceptions=("7: ValueError: x",),
        end_reason="", checkpoint_step=5,
    )  # fmt: skip

    queued = advance(failed, Event(E.RETRIED, 300.0))

    assert queued == dataclasses.replace(
        job(S.FAILED), state=S.QUEUED, end_time=None, previous_failure=failure,
        checkpoint_step=5,
    )  # fmt: skip


def test_only_launched_jobs_have_an_attempt_that_runs() -> None:
    assert {s for s in State if s.launched} == {S.STARTING, S.RUNNING, S.PAUSING, S.CANCELLING}


def test_an_event_sets_the_fields_that_it_carries() -> None:
    failure = Failure(FailureReason.RANK_SIGNAL, "rank 1 was killed", signal=9, step=7)

    after = advance(job(S.RUNNING), Event(E.FAILED, 5.0, {"failure": failure, "sequence": 4}))

    assert after == dataclasses.replace(
        job(S.RUNNING), state=S.FAILED, end_time=5.0, failure=failure, sequence=4
    )


def test_a_published_version_changes_nothing_else() -> None:
    version = Version(3, 40, 1, "ab", 100, 9.0)

    after = advance(
        job(S.RUNNING), Event(E.PARAMETERS_PUBLISHED, 9.0, {"latest_parameters": version})
    )

    assert after == dataclasses.replace(job(S.RUNNING), latest_parameters=version)


def test_an_event_cannot_choose_the_state() -> None:
    after = advance(job(S.STARTING), Event(E.RUNNING, 1.0, {"state": S.SUCCEEDED}))

    assert after.state is S.RUNNING


def test_a_wrong_event_says_where_the_job_is() -> None:
    with pytest.raises(WrongState, match="job j1 is SUCCEEDED: it cannot become cancelling"):
        advance(job(S.SUCCEEDED), Event(E.CANCELLING, 1.0))
