"""A link's uploads of versions: repeated after errors that pass; bytes or shared memory."""

from __future__ import annotations

import grpc
import pytest

from dbp.link.messages import TO_RANK, FreedSlot, StoredReports, decode
from dbp.rpc.status import internal_details
from tests.link.scripted_service import (
    DATA,
    INTERNAL,
    OUTCOME,
    STARTED,
    Scripted,
    filled,
    linked,
    sent_to_rank,
)


@pytest.mark.parametrize("sees_memory", [False, True])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_parameters_are_published_before_the_outcome_is_sent(
    capsys: pytest.CaptureFixture[str], code: grpc.StatusCode, sees_memory: bool
) -> None:
    service = Scripted()
    service.sees_memory = sees_memory
    service.publish_codes = [code]  # INTERNAL without details: how gRPC reports a cut stream
    async with linked(service) as far:
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 0

    assert service.received[-2:] == ["publish 9", "outcome 1"]
    assert service.received.count("publish 9") == 2  # once while the service was away
    assert service.data == DATA
    assert sent_to_rank(capsys) == [FreedSlot(1), StoredReports(1)]


async def test_a_service_that_cannot_see_the_memory_is_sent_the_bytes_and_not_asked_again() -> (
    None
):
    service = Scripted()
    async with linked(service) as far:
        far.send(STARTED, filled(3), filled(6), OUTCOME)

        assert await far.close() == 0

    assert service.blind == 1
    assert service.data == DATA
    assert [received for received in service.received if "publish" in received] == [
        "publish 3", "publish 6",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "special", "times"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", 2),
        (grpc.StatusCode.INTERNAL, "", 1),
        (grpc.StatusCode.INTERNAL, "final", 2),
        (grpc.StatusCode.INTERNAL, "best", 2),
        (grpc.StatusCode.FAILED_PRECONDITION, "final", 1),
    ],
)
async def test_version_is_sent_again_after_an_error_that_may_pass(
    code: grpc.StatusCode, special: str, times: int
) -> None:
    service = Scripted()
    service.publish_codes = [code]
    service.publish_details = internal_details("not now", "1") if code is INTERNAL else ()
    async with linked(service) as far:
        version = filled(3, final=special == "final", best=special == "best")
        far.send(STARTED, version, OUTCOME)

        assert await far.close() == 0

    assert service.received.count("publish 3") == times


async def test_parameters_that_are_refused_free_their_slot(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Scripted()
    service.publish_codes = [grpc.StatusCode.INVALID_ARGUMENT]
    async with linked(service) as far:
        far.send(STARTED, filled(3), OUTCOME)

        assert await far.close() == 0

    captured = capsys.readouterr()
    assert service.received.count("publish 3") == 1
    lines = captured.out.encode().splitlines()
    assert [decode(line, TO_RANK) for line in lines] == [FreedSlot(1), StoredReports(1)]
    assert captured.err == "dbp link: step 3 was not published: not now\n"


async def test_version_that_the_service_cannot_store_does_not_block_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.upload.MAX_FAILURES", 2)
    service = Scripted()
    service.publish_codes = [INTERNAL] * 3
    service.publish_details = internal_details("not now", "1")
    async with linked(service) as far:
        far.send(STARTED, filled(3, best=True), filled(6), OUTCOME)

        assert await far.close() == 0

    assert service.received.count("publish 3") == 3
    assert service.received[-2:] == ["publish 6", "outcome 1"]
    assert "step 3 was not published" in capsys.readouterr().err
