"""Requests for parameters, and the version that a request changes."""

from __future__ import annotations

from dataclasses import dataclass

from dbp.client.arguments import optional_number, seconds, text, whole_number
from dbp.client.arguments import patterns as checked_patterns
from dbp.errors import InvalidArgument
from dbp.job.labels import moves_back
from dbp.job.state import Version
from dbp.rpc.enums import cast_to_proto
from dbp.rpc.scalar_convert import job_name
from dbp.v1 import parameter_service_pb2 as pb


@dataclass(frozen=True)
class Wanted:
    """A request for parameters; fields as in the proto's ``StreamParametersRequest``."""

    patterns: tuple[str, ...] = ()
    version: int = 0
    step: int | None = None
    label: str = ""
    newer_than: int = 0
    if_none_match: str = ""
    wait: float | None = None
    cast: str | None = None
    max_staleness_steps: int | None = None

    def __post_init__(self) -> None:
        checked_patterns(self.patterns)
        for name in ("version", "newer_than"):
            whole_number(name, getattr(self, name))
        for name in ("step", "max_staleness_steps"):
            optional_number(name, getattr(self, name))
        for name in ("label", "if_none_match"):
            text(name, getattr(self, name))
        if self.cast is not None:
            text("cast", self.cast)
        if self.wait is not None:
            seconds("wait", self.wait)

    def request(self, job_id: str) -> pb.StreamParametersRequest:
        """Return the request as proto; InvalidArgument if it names more than one version."""
        if sum((bool(self.version), self.step is not None, bool(self.label))) > 1:
            raise InvalidArgument("version, step, label: name only one of them")
        selector = pb.ParameterSelector(job=job_name(job_id), tensors=self.patterns)
        if self.step is not None:
            selector.step = self.step
        elif self.label:
            selector.label = self.label
        elif self.version:
            selector.version = self.version
        request = pb.StreamParametersRequest(
            selector=selector,
            newer_than=self.newer_than,
            if_none_match=self.if_none_match,
            cast=cast_to_proto(self.cast),
            max_staleness_steps=self.max_staleness_steps,
        )
        if self.wait is not None:
            request.wait.FromMilliseconds(round(self.wait * 1000))
        return request

    def skipped(self, found: Version) -> int:
        """Return the number of versions between ``newer_than`` and a newer one.

        0 for the first version, and for a label, which may move to any version.
        """
        if not self.newer_than or moves_back(self.label):
            return 0
        return found.version - self.newer_than - 1


@dataclass(frozen=True)
class At:
    """The version that a request changes: named by number, label (or `latest`) or step."""

    version: int | None = None
    at: str = ""
    step: int | None = None

    def __post_init__(self) -> None:
        optional_number("version", self.version)
        optional_number("step", self.step)
        text("at", self.at)

    def put_into(self, request: pb.MoveLabelRequest | pb.PinVersionRequest) -> None:
        """Set the request's field; raises InvalidArgument unless one version is named."""
        if sum((self.version is not None, bool(self.at), self.step is not None)) != 1:
            raise InvalidArgument("version, at, step: name a version by one of them")
        if self.version is not None:
            request.version = self.version
        elif self.step is not None:
            request.step = self.step
        else:
            request.at = self.at
