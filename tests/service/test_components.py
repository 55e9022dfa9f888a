"""ListComponents: everything that is installed, in pages, as the command shows it."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from dbp import registry
from dbp.cli.spec import components
from dbp.client.async_client import AsyncClient
from dbp.client.client import Client
from dbp.registry import ComponentInfo, catalogue
from dbp.rpc.component_convert import component_from_proto, component_to_proto
from dbp.rpc.enums import values_of
from dbp.rpc.spec_convert import plain_value
from dbp.service import job_service
from dbp.service.message_limit import AnswerPage
from dbp.v1 import component_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.service.setups import Service, refused


async def pages(service: Service, page_size: int) -> list[pb.ListComponentsResponse]:
    found: list[pb.ListComponentsResponse] = []
    while not found or found[-1].next_page_token:
        token = found[-1].next_page_token if found else ""
        request = pb.ListComponentsRequest(page_size=page_size, page_token=token)
        found.append(await service.jobs.ListComponents(request))
    return found


async def test_clients_and_command_list_the_installed_components(service: Service) -> None:
    async with AsyncClient(service.address) as client:
        assert await client.components() == catalogue()

    def shown(*options: str) -> Any:
        done = CliRunner().invoke(components, [*options, "--output", "json"])
        return json.loads(done.output)

    with_service = await asyncio.to_thread(shown, "--service", service.address)
    assert with_service == await asyncio.to_thread(shown)
    with await asyncio.to_thread(Client, service.address) as plain:
        assert await asyncio.to_thread(plain.components) == catalogue()


async def test_pages_hold_every_kind_once_in_order(service: Service) -> None:
    expected = [(info.group, info.kind) for info in catalogue()]
    assert len(expected) > 60

    for size in (7, 1_000):
        found = await pages(service, size)
        kinds = [component_from_proto(kind) for page in found for kind in page.components]
        assert [(kind.group, kind.kind) for kind in kinds] == expected
        assert len(found) == -(-len(expected) // size)


async def test_one_group_alone(service: Service) -> None:
    request = pb.ListComponentsRequest(group="COMPONENT_GROUP_SCHEDULES")

    answer = await service.jobs.ListComponents(request)

    assert {kind.group for kind in answer.components} == {
        component_pb2.COMPONENT_GROUP_SCHEDULES
    }
    assert tuple(kind.kind for kind in answer.components) == registry.kinds("schedules")


async def test_an_option_says_its_type_default_limits_and_allowed_values(
    service: Service,
) -> None:
    answer = (await pages(service, 1_000))[0].components
    found = {(kind.kind, option.name): option for kind in answer for option in kind.options}

    units = found["dense", "units"]
    assert (units.type, units.required, units.limits) == ("an integer", True, ">= 1")
    assert not units.HasField("default_value")
    bias = found["dense", "bias"]
    assert (bias.required, bias.default_value.bool_value) == (False, True)
    initializer = found["dense", "weight_initializer"]
    assert initializer.group == component_pb2.COMPONENT_GROUP_INITIALIZERS
    rate = found["sgd", "learning_rate"]
    assert rate.group == component_pb2.COMPONENT_GROUP_SCHEDULES
    assert plain_value(rate.default_value) == {"kind": "constant", "rate": 0.01}
    header = found["csv", "header"]
    assert header.default_value.string_value in header.allowed_values
    assert {"yes", "no"} <= set(header.allowed_values)
    assert all(option.description for option in found.values())


def test_every_group_has_a_number() -> None:
    groups = component_pb2.ComponentGroup.DESCRIPTOR

    assert set(values_of(groups)) == set(registry.GROUPS)


def test_a_kind_that_cannot_be_used_says_why() -> None:
    broken = ComponentInfo("layers", "broken", "", problem="cannot be loaded (no numba)")

    assert component_from_proto(component_to_proto(broken)) == broken


async def test_a_page_ends_before_a_message_would_be_too_large(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_service, "AnswerPage", partial(AnswerPage, 8_000))

    found = await pages(service, 1_000)

    assert len(found) > 3
    assert sum(len(page.components) for page in found) == len(catalogue())


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.ListComponentsRequest(page_size=-1), "page_size: must be >= 0, got -1"),
        (pb.ListComponentsRequest(page_token="layers/dens"), "page_token: not from this"),
        (pb.ListComponentsRequest(group=99), "COMPONENT_GROUP_LOSSES"),  # type: ignore[arg-type]
    ],
)
async def test_a_request_that_cannot_be_is_refused(
    service: Service, request_: pb.ListComponentsRequest, text: str
) -> None:
    found = await refused(
        service.jobs.ListComponents(request_), grpc.StatusCode.INVALID_ARGUMENT
    )

    assert text in found


def test_default_pages_are_large_enough_for_what_dbp_has() -> None:
    assert len(catalogue()) < job_service.COMPONENTS_PAGE
