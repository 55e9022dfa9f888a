"""Every method of every service has a role; roles include those below them."""

from __future__ import annotations

import re

import pytest

from dbp.access.roles import METHODS, Role
from tests.service.callers import EVERY_METHOD


def test_the_table_names_every_method_of_the_descriptors_and_no_other() -> None:
    assert set(METHODS) == set(EVERY_METHOD)


def test_only_the_health_check_needs_no_credential() -> None:
    assert [name for name, role in METHODS.items() if role is None] == [
        "/grpc.health.v1.Health/Check"
    ]


# What their names say: these change nothing.
READING = re.compile("Get|List|Watch|Stream|Query|WhoAmI|Check|Server|Model|RepositoryIndex")


@pytest.mark.parametrize("name", [n for n, role in METHODS.items() if role is not Role.WORKER])
def test_a_viewer_changes_nothing_and_admins_alone_manage_tokens(name: str) -> None:
    _, service, method = name.split("/")
    needed = METHODS[name]
    if service in ("dbp.v1.AccessService", "dbp.v1.AdminService") and method != "WhoAmI":
        assert needed is Role.ADMIN
    elif not READING.match(method):
        assert needed is Role.SUBMITTER


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_includes_those_below_it_and_worker_is_apart(role: Role, needed: Role) -> None:
    order = [Role.VIEWER, Role.SUBMITTER, Role.ADMIN]
    apart = Role.WORKER in (role, needed)

    expected = role is needed if apart else order.index(role) >= order.index(needed)

    assert role.satisfies(needed) is expected
