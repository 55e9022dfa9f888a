"""Refuse to pickle or copy a client and its objects; the error names a substitute."""

from __future__ import annotations

from dbp.errors import InvalidInput


def not_picklable(found: object) -> InvalidInput:
    """Return the error for an attempt to pickle or copy a client or one of its objects."""
    return InvalidInput(
        f"{type(found).__name__} cannot be pickled or copied: its connection belongs to one "
        "process. Send the service's address and the job's id, and connect there: "
        "dbp.Client(address).job(job_id)"
    )
