"""Values to protos and back: every field, set and unset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.errors import InvalidInput, Unsupported
from dbp.job.best import BestEpoch
from dbp.job.failure import Condition, ConditionKind, Failure, FailureReason
from dbp.job.snapshot import Manifest, TensorInfo
from dbp.job.state import Job, ProgressReport, RunOutcome, State, Version, VersionEntry
from dbp.job.step_window import StepWindow
from dbp.rpc.job_convert import (
    condition_from_proto,
    condition_to_proto,
    failure_from_proto,
    failure_to_proto,
    job_from_proto,
    job_to_proto,
    outcome_from_proto,
    outcome_to_proto,
    progress_from_proto,
    progress_to_proto,
    state_from_proto,
    state_to_proto,
)
from dbp.rpc.scalar_convert import id_from_name, job_name, time_from_proto, time_to_proto
from dbp.rpc.version_convert import (
    manifest_from_proto,
    manifest_to_proto,
    version_entry_from_proto,
    version_entry_to_proto,
    version_from_proto,
    version_to_proto,
)
from dbp.v1 import job_pb2, parameter_pb2, parameter_service_pb2, worker_service_pb2

VERSION = Version(
    3, 40, 2, "ab" * 32, 1234, 1_700_000_000.25, True, "cd" * 32, "ef" * 32, 1
)  # fmt: skip
PROGRESS = ProgressReport(
    step=40, total_steps=100, epoch=2, loss=0.5, metrics={"training_loss": 0.25},
    samples_per_second=1e3, eta_seconds=0.0, observe_time=1_700_000_001.5, epoch_end=True,
    skipped=3,
    disk_full="no space",
    window=StepWindow(31, 9, 0.75, 0.5, 1.0, 2),
)  # fmt: skip
FAILURE = Failure(
    FailureReason.RANK_SIGNAL, "rank 1 is gone", 1, 9, ("one", "two"), 39,
    rank=0, host="node1", attempt=2, checkpoint_step=30, retry_helps=True,
)  # fmt: skip
CONDITION = Condition(ConditionKind.STALLED, "no step for 63 s", 1_700_000_000.5)
BEST = BestEpoch(15, 480, {"validation_loss": 0.5})
OUTCOME = RunOutcome(
    "failed",
    "NON_FINITE",
    12,
    metrics={"validation_loss": 2.0},
    message="the loss is nan",
    rank=0,
    best=BEST,
    best_restored=True,
    asked=True,
)
MANIFEST = Manifest(
    (TensorInfo("0.weight", "F32", (2, 3), 0), TensorInfo("0.bias", "F64", (), 24)),
    {"dbp.step": "40"},
)
BARE = Job("digits-a", {"name": "digits"}, "d", 1, State.QUEUED, 1_700_000_000.0)
FULL = Job(
    id="digits-b", spec={"name": "digits", "train": {"epochs": 0}}, spec_digest="cd" * 32,
    workers=4, state=State.FAILED, create_time=1.0, attempt=2, start_time=2.0, end_time=3.5,
    failure=FAILURE, latest_parameters=VERSION, progress=PROGRESS, sequence=17, attached=True,
    host="node1", waiting_reason="needs 2 slots", best=BEST, best_restored=True,
    notes=("data.train: a note",), end_reason="time", previous_failure=FAILURE, failures=2,
    conditions=(CONDITION,), report_time=2.5, checkpoint_step=30, retry_time=4.5,
)  # fmt: skip

PAIRS: list[tuple[Any, Any, Callable[..., Any], Callable[..., Any]]] = [
    (VERSION, job_pb2.ParameterVersion, version_to_proto, version_from_proto),
    (
        VersionEntry(VERSION, True, True, ("best", "stable"), ("trial",)),
        parameter_service_pb2.VersionEntry,
        version_entry_to_proto,
        version_entry_from_proto,
    ),
    (PROGRESS, job_pb2.Progress, progress_to_proto, progress_from_proto),
    (FAILURE, job_pb2.JobFailure, failure_to_proto, failure_from_proto),
    (CONDITION, job_pb2.JobCondition, condition_to_proto, condition_from_proto),
    (OUTCOME, worker_service_pb2.RunOutcome, outcome_to_proto, outcome_from_proto),
    (MANIFEST, parameter_pb2.Manifest, manifest_to_proto, manifest_from_proto),
    (FULL, job_pb2.Job, job_to_proto, job_from_proto),
    (BARE, job_pb2.Job, job_to_proto, job_from_proto),
]  # fmt: skip
NAMES = [
    "version",
    "version entry",
    "progress",
    "failure",
    "condition",
    "outcome",
    "manifest",
    "full job",
    "bare job",
]


@pytest.mark.parametrize(("value", "message", "there", "back"), PAIRS, ids=NAMES)
def test_a_value_comes_back_as_it_was(value: Any, message: Any, there: Any, back: Any) -> None:
    assert back(message.FromString(there(value).SerializeToString())) == value


@pytest.mark.parametrize(("value", "message", "there", "back"), PAIRS[:7], ids=NAMES[:7])
def test_every_field_is_sent(value: Any, message: Any, there: Any, back: Any) -> None:
    proto = there(value)
    fields = dataclasses.fields(value)
    names = {field.name for field in fields if not field.metadata.get("local")} - {"id"}
    if value is OUTCOME:
        names = names - {"reason"} | {"failure_reason"}

    assert names <= set(message.DESCRIPTOR.fields_by_name)
    # The example sets every field, so that one that is forgotten is seen by the round trip.
    assert {field.name for field, _ in proto.ListFields()} >= names


@pytest.mark.parametrize("eta", [None, 0.0, 12.5])
@pytest.mark.parametrize("code", [None, 0, 1])
@pytest.mark.parametrize("rank", [None, 0, 1])
def test_zero_differs_from_unknown(
    eta: float | None, code: int | None, rank: int | None
) -> None:
    progress = dataclasses.replace(PROGRESS, eta_seconds=eta)
    failure = dataclasses.replace(FAILURE, exit_code=code, rank=rank)

    assert progress_from_proto(progress_to_proto(progress)) == progress
    assert failure_from_proto(failure_to_proto(failure)) == failure


@given(st.integers(1_500_000_000 * 2**22, 2_000_000_000 * 2**22))
def test_times_of_our_days_come_back_to_the_bit(ticks: int) -> None:
    seconds = ticks / 2**22  # what a float can hold of a time between 2017 and 2033

    assert time_from_proto(time_to_proto(seconds)) == seconds


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_number(state: State) -> None:
    number = state_to_proto(state)

    assert number != job_pb2.JOB_STATE_UNSPECIFIED
    assert state_from_proto(number) is state
    assert len(job_pb2.JobState.values()) == len(State) + 1


@pytest.mark.parametrize("number", [0, 99])
def test_a_number_that_is_no_state_is_refused(number: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{number} is no state of a job"):
        state_from_proto(number)


def test_a_job_of_a_newer_service_is_read_without_what_it_adds() -> None:
    proto = job_to_proto(FULL)
    proto.spec.MergeFromString(b"\xfa\x3e\x01x")  # field 1007
    proto.spec.train.numerics = 99  # type: ignore[assignment]

    found = job_from_proto(job_pb2.Job.FromString(proto.SerializeToString()))

    assert found.id == FULL.id
    train = found.spec["train"]
    assert isinstance(train, Mapping)
    assert "numerics" not in train
    assert found.spec["name"] == FULL.spec["name"]


def test_a_state_that_only_a_newer_service_knows_names_the_job_and_the_remedy() -> None:
    proto = job_to_proto(FULL)
    proto.state = 99  # type: ignore[assignment]

    with pytest.raises(Unsupported, match=f"jobs/{FULL.id}: its state, number 99, .* install"):
        job_from_proto(proto)


def test_names_of_jobs_hold_their_ids() -> None:
    assert job_name("digits-7k2m9q") == "jobs/digits-7k2m9q"
    assert id_from_name("jobs/digits-7k2m9q") == "digits-7k2m9q"


@pytest.mark.parametrize("name", ["", "jobs/", "digits", "job/x", "jobs/a/b", "xjobs/a"])
def test_malformed_job_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="a job is named jobs/ID"):
        id_from_name(name)


def test_bytes_that_are_no_text_do_not_hide_why_a_job_failed() -> None:
    reason = FailureReason.RANK_EXCEPTION
    failure = Failure(reason, "no file caf\udce9.csv", log_tail=("\udcff",))

    proto = failure_to_proto(failure)

    assert proto.message == r"no file caf\udce9.csv"
    assert list(proto.log_tail) == [r"\udcff"]
