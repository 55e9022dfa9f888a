"""Roles of callers, and the least role that each gRPC method needs.

The table names every method of every service. A method without a row is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Role of a caller; each but WORKER may do everything that the one before it may.

    VIEWER reads, SUBMITTER also submits and changes jobs, ADMIN also manages tokens and the
    jobs of others. WORKER reports for one attempt, whose secret it knows.
    """

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"
    WORKER = "worker"

    def satisfies(self, needed: Role) -> bool:
        """Return whether a caller with this role may call a method that needs ``needed``."""
        if Role.WORKER in (self, needed):
            return self is needed
        return _ORDER.index(self) >= _ORDER.index(needed)


_ORDER: Final = (Role.VIEWER, Role.SUBMITTER, Role.ADMIN)

# Roles that a token may have.
TOKEN_ROLES: Final = _ORDER

_BY_SERVICE: Final[Mapping[str, Mapping[Role | None, tuple[str, ...]]]] = {
    "dbp.v1.AccessService": {
        Role.VIEWER: ("WhoAmI",),
        Role.ADMIN: ("CreateToken", "ListTokens", "RevokeToken"),
    },
    "dbp.v1.AdminService": {Role.ADMIN: ("BeginDrain", "EndDrain", "StageBackup")},
    "dbp.v1.JobService": {
        Role.VIEWER: (
            "GetJob", "ListJobs", "WatchJobs", "StreamLogs", "QueryMetrics", "ListComponents",
        ),
        Role.SUBMITTER: (
            "CreateJob", "CancelJob", "PauseJob", "ResumeJob", "RetryJob", "DeleteJob",
        ),
    },
    "dbp.v1.ParameterService": {
        Role.VIEWER: (
            "GetParameters", "GetParameterInfo", "StreamParameters", "WatchParameters",
            "ListVersions", "ListLabels",
        ),
        Role.SUBMITTER: ("MoveLabel", "UndoLabel", "PinVersion", "PublishVersion"),
    },
    "dbp.v1.WorkerService": {
        Role.SUBMITTER: ("RegisterRun",),
        Role.WORKER: ("Attach", "PublishParameters"),
    },
    "inference.GRPCInferenceService": {
        Role.VIEWER: (
            "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata",
            "ModelConfig", "ModelStatistics", "ModelInfer", "RepositoryIndex",
        ),
    },
    "grpc.health.v1.Health": {None: ("Check",), Role.VIEWER: ("List", "Watch")},
    "grpc.reflection.v1.ServerReflection": {Role.VIEWER: ("ServerReflectionInfo",)},
    "grpc.reflection.v1alpha.ServerReflection": {Role.VIEWER: ("ServerReflectionInfo",)},
}  # fmt: skip

# /SERVICE/METHOD -> least role of its callers; None: needs no credential.
METHODS: Final[Mapping[str, Role | None]] = {
    f"/{service}/{method}": role
    for service, roles in _BY_SERVICE.items()
    for role, methods in roles.items()
    for method in methods
}
