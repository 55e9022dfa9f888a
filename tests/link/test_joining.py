"""Runs started by hand that join a service: wrong addresses, refused specs."""

from __future__ import annotations

import asyncio
import time

import pytest

from dbp.errors import InvalidInput, Unavailable
from dbp.link.reporter import BY_HAND_PATIENCE_SECONDS, Reporter
from tests.link.reporting import links
from tests.service.setups import Service, document

pytestmark = pytest.mark.processes


def test_an_address_without_a_service_is_reported_soon() -> None:
    began = time.monotonic()

    with pytest.raises(
        Unavailable, match='dbp serve`, or name another with address="HOST:PORT"'
    ):
        Reporter.join("127.0.0.1:1", document(), 1)

    assert time.monotonic() - began < BY_HAND_PATIENCE_SECONDS
    assert not links()


def test_an_address_that_is_none_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        Reporter.join("nonsense", document(), 1)

    assert not links()


async def test_a_spec_that_the_service_refuses_is_bad_input(service: Service) -> None:
    bad = document(optimizer={"kind": "adm", "learning_rate": 0.1})

    with pytest.raises(InvalidInput, match="optimizer") as caught:
        await asyncio.to_thread(Reporter.join, service.address, bad, 1)

    assert "did you mean 'adam'" in str(caught.value)
    assert not links()
