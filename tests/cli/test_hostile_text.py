"""Text of a service that strips nothing: no command passes it on to the terminal."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import dbp.cli
from dbp.v1 import job_pb2, stream_pb2
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from tests.cli.setups import run
from tests.hostile_text import SEQUENCES, faults

HOSTILE = "".join(SEQUENCES.values()).encode("utf-8", "replace").decode()
# Commands that print text of a service, of runs or of data files.
FOREIGN = {
    "check.py", "export.py", "jobs.py", "lifecycle.py", "verify.py", "params/diff.py",
    "params/table.py", "params/versions.py", "params/watch.py", "predict/command.py",
    "screen/follow.py", "train/command.py", "train/preparation.py",
    "token.py",
}  # fmt: skip


def job() -> job_pb2.Job:
    failure = job_pb2.JobFailure(
        reason=job_pb2.FAILURE_REASON_RANK_EXCEPTION, message=f"no{HOSTILE}", host=HOSTILE,
        log_tail=[HOSTILE], attempt=1,
    )  # fmt: skip
    return job_pb2.Job(
        name="jobs/digits-1", state=job_pb2.JOB_STATE_FAILED, workers=1, failure=failure,
        previous_failure=failure, host=HOSTILE, notes=[HOSTILE], waiting_reason=HOSTILE,
        conditions=[{"kind": "JOB_CONDITION_KIND_STALLED", "message": HOSTILE}], attempt=1,
        end_time={},
        progress=job_pb2.Progress(metrics={f"validation_{HOSTILE}": 1.0}, disk_full=HOSTILE),
        spec_digest=HOSTILE,
    )  # fmt: skip


class Hostile(JobServiceServicer):
    """Sends hostile text in every string."""

    def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: N802
        return pb.GetJobResponse(job=job())

    def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:  # noqa: N802
        return pb.ListJobsResponse(jobs=[job()])

    def WatchJobs(self, request: Any, context: Any) -> Iterator[pb.WatchJobsResponse]:  # noqa: N802
        yield pb.WatchJobsResponse(snapshot=job())
        end = stream_pb2.StreamEnd(reason=stream_pb2.STREAM_END_REASON_JOB_ENDED)
        yield pb.WatchJobsResponse(end=end)

    def StreamLogs(self, request: Any, context: Any) -> Iterator[pb.StreamLogsResponse]:  # noqa: N802
        yield pb.StreamLogsResponse(lines=[f"loss\t0.5{HOSTILE}", HOSTILE])
        end = stream_pb2.StreamEnd(reason=stream_pb2.STREAM_END_REASON_END_OF_LOG)
        yield pb.StreamLogsResponse(end=end)

    def CancelJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"not now{HOSTILE}")


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    add_JobServiceServicer_to_server(Hostile(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("show", "error in a worker: no"),
        ("jobs", "stalled"),
        ("watch", "FAILED"),
        ("logs", "loss\t0.5"),
        ("cancel", "not now"),
    ],
)
def test_no_command_prints_control_characters_of_a_service(
    hostile: str, command: str, expected: str
) -> None:
    job = () if command == "jobs" else ("digits-1",)

    text = run(command, *job, service=hostile)
    as_json = run(command, *job, "--output", "json", service=hostile)

    shown = text.stdout + text.stderr
    assert expected in shown
    assert not faults(shown, "\n\t")
    for line in (as_json.stdout + as_json.stderr).splitlines():
        assert not faults(line)
        assert json.loads(line)


def test_commands_print_foreign_text_through_echo() -> None:
    """click.echo would pass control characters on."""
    folder = Path(dbp.cli.__file__).parent
    for name in FOREIGN:
        tree = ast.parse((folder / name).read_text())
        called = [
            ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
        ]
        assert "click.echo" not in called, name
