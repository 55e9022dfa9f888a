"""Text that a run sends, or prints, reaches other clients without control characters."""

from __future__ import annotations

import pytest

from dbp.launch.launcher import Exit
from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import worker_service_pb2 as pb
from tests.hostile_text import SEQUENCES, faults
from tests.service.setups import Service, document, read_all, refused
from tests.service.worker_calls import DATA, Code, attach, header, hello, launched, publish

HOSTILE = "".join(SEQUENCES.values()).encode("utf-8", "replace").decode()


async def test_what_a_run_says_about_itself_is_stripped(service: Service) -> None:
    job_id, secret = await launched(service)
    first = hello(job_id)
    first.hello.host = f"node1{HOSTILE}"
    report = pb.AttachRequest(sequence=1)
    report.progress.step, report.progress.total_steps = 1, 2
    report.progress.metrics[f"loss{HOSTILE}"] = 1.0
    report.progress.disk_full = f"no space{HOSTILE}"
    outcome = pb.AttachRequest(sequence=2)
    outcome.outcome.status = pb.RUN_STATUS_FAILED
    outcome.outcome.message = f"a weight is nan{HOSTILE}"
    await attach(service, secret, first, report)
    running = await service.get(job_id)
    await attach(service, secret, first, outcome)
    service.launcher.runs[job_id].end(Exit(exit_code=1))
    ended = await service.ended(job_id)

    assert running.host.startswith("node1")
    assert not faults(running.host)
    (metric,) = running.progress.metrics
    assert metric.startswith("loss")
    assert not faults(metric)
    assert not faults(running.progress.disk_full)
    assert [c.message for c in running.conditions if c.message.startswith("no space")]
    assert not faults("".join(c.message for c in running.conditions))
    assert ended.failure.message.startswith("a weight is nan")
    assert not faults(ended.failure.message, "\n\t")
    assert all(line.startswith("  ") for line in ended.failure.message.split("\n")[1:] if line)


async def test_the_exception_of_a_rank_is_stripped(service: Service) -> None:
    job_id, _ = await launched(service)
    running = service.launcher.runs[job_id]
    running.write_result("failed", "RANK_EXCEPTION", message=f"ValueError: {HOSTILE}")
    running.end(Exit(exit_code=1, log_tail=(f"line{HOSTILE}",)))

    failure = (await service.ended(job_id)).failure

    assert failure.message.startswith("ValueError: ")
    assert not faults(failure.message, "\n\t")
    assert failure.log_tail[0].startswith("line")
    assert not faults(failure.log_tail[0], "\t")


async def test_the_host_of_a_registered_run_is_stripped(service: Service) -> None:
    answer = await service.worker.RegisterRun(
        pb.RegisterRunRequest(
            spec=spec_to_proto(document()), workers=1, request_id="r", host=f"node1{HOSTILE}"
        )
    )

    assert answer.job.host.startswith("node1")
    assert not faults(answer.job.host)


async def test_the_log_that_others_read_is_stripped_but_for_tabs(service: Service) -> None:
    run = await service.start()
    run.write_log(f"epoch\t1{HOSTILE}\nloss \x1b[31m0.5\x1b[0m\rloss 0.4\n")
    request = jobs_pb.StreamLogsRequest(name=f"jobs/{run.id}")

    lines = [line for m in await read_all(service.jobs.StreamLogs(request)) for line in m.lines]

    assert lines[0].startswith("epoch\t1")
    assert lines[-1] == "loss 0.5 loss 0.4"
    assert not faults("".join(lines), "\t")


async def test_an_error_does_not_repeat_control_characters(service: Service) -> None:
    text = await refused(
        service.jobs.CreateJob(
            jobs_pb.CreateJobRequest(spec=spec_to_proto(document(name=f"x{HOSTILE}")))
        ),
        Code.INVALID_ARGUMENT,
    )

    assert not faults(text, "\n")


@pytest.mark.parametrize("place", ["tensor", "key of the metadata"])
async def test_names_in_published_parameters_hold_no_control_characters(
    service: Service, place: str
) -> None:
    job_id, secret = await launched(service)
    first = header(job_id)
    if place == "tensor":
        first.manifest.tensors[0].name += "\x1b[2J"
    else:
        first.manifest.metadata["\x9b2J"] = "1"

    text = await refused(publish(service, secret, first, [DATA]), Code.INVALID_ARGUMENT)

    assert "holds control characters" in text
