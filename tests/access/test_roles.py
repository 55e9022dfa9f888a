"""Every method of every service has a role; roles include those below them."""

from __future__ import annotations

import pytest

from dbp.access.roles import METHODS, Role
from tests.service.callers import EVERY_METHOD


def test_the_table_names_every_method_of_the_descriptors_and_no_other() -> None:
    assert set(METHODS) == set(EVERY_METHOD)


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
