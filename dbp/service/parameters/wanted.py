"""Read and validate requests for parameters; compare them with the stored versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from dbp.errors import (
    InvalidInput,
    LabelNotFound,
    NotPublishedYet,
    StaleParameters,
    VersionNotFound,
)
from dbp.job.labels import is_news, outlives_job
from dbp.job.state import Version
from dbp.jobs.live_parameters import LiveParameters
from dbp.quantities import count_text
from dbp.rpc.enums import cast_from_proto
from dbp.rpc.scalar_convert import id_from_name
from dbp.v1 import parameter_service_pb2 as pb
from dbp.versions.index import At
from dbp.versions.store import VersionStore
from dbp.versions.tensor_patterns import check_patterns

DEFAULT_CHUNK_BYTES: Final = 1 << 20
MIN_CHUNK_BYTES: Final = 1 << 16
MAX_CHUNK_BYTES: Final = 3 << 20
MAX_WAIT_SECONDS: Final = 3600.0


def at_of(selector: pb.ParameterSelector) -> At:
    """Return the version that a selector means; InvalidInput."""
    match selector.WhichOneof("at"):
        case "step":
            if selector.step < 0:
                raise InvalidInput(f"selector.step: must be >= 0, got {selector.step}")
            return At(step=selector.step)
        case "label":
            if not selector.label:
                raise InvalidInput("selector.label: must not be empty")
            return At(label=selector.label)
    if selector.version < 0:
        raise InvalidInput(f"selector.version: must be >= 0, got {selector.version}")
    return At(version=selector.version)


def destination_of(request: pb.MoveLabelRequest) -> At | None:
    """Return the version that a label is to move to; None: the label is to be removed.

    Raises InvalidInput where the request names none, or one that cannot be.
    """
    if request.WhichOneof("to") == "version" and not request.version:
        return None
    return _at_field(request, request.WhichOneof("to"))


def pinned_of(request: pb.PinVersionRequest) -> At:
    """Return the version that is to be pinned or unpinned; raises InvalidInput."""
    return _at_field(request, request.WhichOneof("which"))


def _at_field(request: pb.MoveLabelRequest | pb.PinVersionRequest, field: str | None) -> At:
    match field:
        case "at":
            if not request.at:
                raise InvalidInput("at: must be `latest` or a label, got ''")
            return At(label=request.at)
        case "step":
            if request.step < 0:
                raise InvalidInput(f"step: must be >= 0, got {request.step}")
            return At(step=request.step)
        case "version":
            if request.version < 1:
                raise InvalidInput(f"version: must be >= 1, got {request.version}")
            return At(version=request.version)
    raise InvalidInput("no version is named; set one of version, at, step")


@dataclass(frozen=True)
class Wanted:
    """The requested version and conditions."""

    job_id: str
    at: At
    newer_than: int
    if_none_match: str
    max_staleness: int | None
    cast: str

    @classmethod
    def of(cls, request: pb.StreamParametersRequest | pb.GetParametersRequest) -> Self:
        """Read a request; raises InvalidInput."""
        stale = request.max_staleness_steps if request.HasField("max_staleness_steps") else None
        for name, value in (("newer_than", request.newer_than), ("max_staleness_steps", stale)):
            if value is not None and value < 0:
                raise InvalidInput(f"{name}: must be >= 0, got {value}")
        check_patterns(request.selector.tensors)
        return cls(
            id_from_name(request.selector.job),
            at_of(request.selector),
            request.newer_than,
            request.if_none_match,
            stale,
            cast_from_proto(request.cast),
        )

    def unchanged(self, version: Version) -> bool:
        """Whether the reader has this version already, or a newer one than the newest here."""
        known = not is_news(version.version, self.newer_than, self.at.label)
        return known or version.digest == self.if_none_match

    def check_fresh(self, version: Version, parameters: LiveParameters) -> None:
        """Raise StaleParameters if the version is too many steps older than its run."""
        if self.max_staleness is None:
            return
        behind = parameters.staleness(self.job_id, version)
        if behind > self.max_staleness:
            raise StaleParameters(
                f"job {self.job_id}: version {version.version} is "
                f"{count_text(behind, 'step')} older than the run, at most "
                f"{self.max_staleness} are allowed; wait for a newer one",
                job=self.job_id,
                version=version.version,
                steps_behind=behind,
            )

    async def wait(
        self, versions: VersionStore, parameters: LiveParameters, seconds: float
    ) -> None:
        """Return when the requested version is there, none will come, or the time is up.

        Asks the run for a version if it must be fresher.
        """

        async def there() -> bool:
            try:
                version = await versions.find(self.job_id, self.at)
                if self.unchanged(version):
                    return bool(self.at.version)  # a number means the same version for ever
                self.check_fresh(version, parameters)
            except StaleParameters:
                parameters.ask(self.job_id)
                return False
            except (NotPublishedYet, VersionNotFound, LabelNotFound):
                return False
            return True

        await parameters.wait(
            self.job_id,
            there,
            min(max(0.0, seconds), MAX_WAIT_SECONDS),
            after_end=outlives_job(self.at.label),
        )


def chunk_bytes_of(request: pb.StreamParametersRequest) -> int:
    """Return the size of a chunk; InvalidInput."""
    size = request.chunk_bytes or DEFAULT_CHUNK_BYTES
    if not MIN_CHUNK_BYTES <= size <= MAX_CHUNK_BYTES:
        raise InvalidInput(
            f"chunk_bytes: must be {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES}, or 0 for "
            f"{DEFAULT_CHUNK_BYTES}, got {size}"
        )
    return size
