"""Pass the data that a job may read from the service to its ranks, in ``launch.json``."""

from __future__ import annotations

import os

from dbp.data_access import DataAccess
from dbp.data_roots import DataRoots
from dbp.json_value import JsonObject, JsonValue


def data_fields(roots: DataRoots | None, digest: str) -> dict[str, JsonValue]:
    """Return the fields of the launch.

    Args:
        roots: Folders below which data files may be opened; None: any.
        digest: Digest of the files that the service has checked, on this host; "": none.
    """
    return {
        "data_roots": None if roots is None else roots.to_json(),
        "data_digest": digest,
        "data_host": os.uname().nodename,
    }


def data_access(launch: JsonObject) -> DataAccess:
    """Return the access of a rank; the digest counts on the service's own host only."""
    roots, is_here = launch["data_roots"], launch["data_host"] == os.uname().nodename
    return DataAccess(
        None if roots is None else DataRoots.from_json(roots),
        checked=str(launch["data_digest"]) if is_here else "",
    )
