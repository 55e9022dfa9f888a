"""Every method of every service has a role; roles include those below them."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from dbp.access.roles import METHODS, Role
from dbp.inference import open_inference_pb2
from dbp.v1 import (
    access_service_pb2,
    job_service_pb2,
    parameter_service_pb2,
    worker_service_pb2,
)

FILES = (
    access_service_pb2, job_service_pb2, parameter_service_pb2, worker_service_pb2,
    open_inference_pb2, health_pb2, reflection_pb2,
)  # fmt: skip


def methods_of_descriptors() -> set[str]:
    """Every method that a service of this installation can have."""
    found = {
        f"/{service.full_name}/{method.name}"
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    return found | {name.replace("v1alpha", "v1") for name in found}


def test_the_table_names_every_method_of_the_descriptors_and_no_other() -> None:
    assert set(METHODS) == methods_of_descriptors()


def test_only_the_health_check_needs_no_credential() -> None:
    assert [name for name, role in METHODS.items() if role is None] == [
        "/grpc.health.v1.Health/Check"
    ]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_includes_those_below_it_and_worker_is_apart(role: Role, needed: Role) -> None:
    order = [Role.VIEWER, Role.SUBMITTER, Role.ADMIN]
    apart = Role.WORKER in (role, needed)

    expected = role is needed if apart else order.index(role) >= order.index(needed)

    assert role.satisfies(needed) is expected
