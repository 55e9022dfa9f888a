"""Reports of a link: repeated until acknowledged, refused, or given up after a time."""

from __future__ import annotations

import asyncio
import io
import sys

import grpc
import pytest

from dbp.link.messages import (
    TO_RANK,
    Alive,
    AttemptOver,
    Probe,
    RunRequest,
    StoredReports,
    ToRank,
    decode,
)
from dbp.v1 import worker_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.link.scripted_service import OUTCOME, STARTED, Scripted, filled, linked, sent_to_rank
from tests.random_pauses import as_long_as_allowed
from tests.service.setups import until


async def test_unacknowledged_reports_are_sent_again_with_their_numbers() -> None:
    service = Scripted()
    service.cut_streams = 2
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"] * 3


async def test_requests_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    service = Scripted()
    service.ask = pb.AttachResponse(publish=True)
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert sent_to_rank(capsys) == [RunRequest(stop=False, publish=True), StoredReports(1)]


async def test_an_attempt_that_is_over_is_reported_in_its_log_and_not_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Scripted()
    service.refuse_attach = [grpc.StatusCode.FAILED_PRECONDITION] * 1_000
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert service.received == []
    captured = capsys.readouterr()
    assert decode(captured.out.encode(), TO_RANK) == AttemptOver()
    errors = captured.err
    assert errors == "dbp link: the service refused the run's reports: the secret is wrong\n"


async def test_a_service_that_knows_no_such_run_is_named_once_and_asked_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.session.LAST_RETRY_SECONDS", 0.05)
    service = Scripted()  # another one, at the address of the run's own
    service.refuse_attach = [grpc.StatusCode.UNAUTHENTICATED] * 1_000
    errors = ""
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)
        async with asyncio.timeout(DEADLINE):
            while "refused" not in errors or len(service.refuse_attach) > 990:
                await asyncio.sleep(0.01)
                errors += capsys.readouterr().err
        service.refuse_attach.clear()

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"]
    errors += capsys.readouterr().err
    assert errors == "dbp link: the service refused the run's reports: the secret is wrong\n"


async def test_a_service_whose_disk_is_full_is_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Scripted()
    service.refuse_attach = [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"]
    assert capsys.readouterr().err == ""


async def test_links_of_many_runs_come_back_at_different_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = as_long_as_allowed(monkeypatch)
    service = Scripted()
    service.refuse_attach = [grpc.StatusCode.UNAVAILABLE] * 2
    service.publish_codes = [grpc.StatusCode.UNAVAILABLE] * 2
    async with linked(service) as far:
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 0

    assert sorted(drawn) == [0.1, 0.1, 0.2, 0.2]


async def test_link_of_a_rank_that_has_ended_gives_up_after_a_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.session.LINGER_SECONDS", 0.3)
    service = Scripted()
    service.publish_codes = [grpc.StatusCode.UNAVAILABLE] * 1_000
    async with linked(service) as far:
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 1

    assert "outcome 1" not in service.received
    assert capsys.readouterr().err.endswith("giving up\n")


async def test_the_end_is_reported_though_rank_0_has_stopped_reading_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    service = Scripted()
    async with linked(service) as far:
        monkeypatch.setattr(sys, "stdout", Broken())
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 0

    assert service.received[-2:] == ["publish 9", "outcome 1"]


async def test_a_rank_that_dies_silently_ends_its_link() -> None:
    service = Scripted()
    async with linked(service) as far:
        far.send(STARTED)
        await until(lambda: service.received)

        assert await far.close() == 1

    assert service.received == ["hello 0"]


async def test_an_ending_before_the_first_step_is_reported_too() -> None:
    service = Scripted()
    async with linked(service) as far:
        far.send(OUTCOME)

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"]


async def test_a_probe_is_answered_while_the_service_is_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with linked(Scripted(), away=True) as far:
        far.send(STARTED, Probe(), filled(3), Probe())

        found: list[ToRank] = []
        async with asyncio.timeout(DEADLINE):
            while len(found) < 2:
                await asyncio.sleep(0.01)
                found += sent_to_rank(capsys)
        assert found == [Alive(), Alive()]
        assert await far.close() == 1


async def test_every_call_carries_the_number_of_the_link() -> None:
    service = Scripted()
    async with linked(service, generation=7) as far:
        far.send(STARTED, filled(3), OUTCOME)

        assert await far.close() == 0

    assert service.generations == {7}
