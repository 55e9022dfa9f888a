"""A run of a service, which keeps the two newest versions, for every test that asks for one."""

from __future__ import annotations

import pytest

from tests.service.setups import Run, Service


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start(publish={"every_steps": 1, "keep": 2})
