"""Find the job that a command names by its id, or by a prefix that one job alone has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbp.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from dbp.client.client import Client
    from dbp.client.job import JobHandle

SHOWN_IDS: Final = 5
_RESOURCE: Final = "jobs/"


def find_job(client: Client, given: str) -> JobHandle:
    """Return the job with this id, resource name, or unique prefix of an id.

    Raises NotFound if no id begins so, and InvalidInput, which lists them, if several do, or
    for a path.
    """
    if "/" in given.removeprefix(_RESOURCE):
        path = "is a path here" if Path(given).exists() else "is no path here either"
        raise InvalidInput(
            f"{given}: no id of a job, such as digits-7k2m9q, which this command needs (dbp "
            f"jobs lists them); it {path}"
        )
    try:
        return client.job(given)
    except NotFound:
        prefix = given.removeprefix(_RESOURCE)
        found = [job.id for job in client.jobs() if job.id.startswith(prefix)]
        if not found:
            raise
    if len(found) > 1:
        shown = ", ".join(found[:SHOWN_IDS]) + (", ..." * (len(found) > SHOWN_IDS))
        raise InvalidInput(f"{prefix!r} begins several jobs: {shown}")
    return client.job(found[0])
