"""Values of the ``[retry]`` table of a resolved spec, which an old one may lack."""

from __future__ import annotations

from collections.abc import Mapping

from dbp.job.spec.job_spec import RetrySpec
from dbp.json_value import JsonObject


def stall_seconds(document: JsonObject) -> float:
    """Return the seconds without progress after which a run counts as stalled."""
    retry = document.get("retry")
    value = retry.get("stall_seconds") if isinstance(retry, Mapping) else None
    return float(value) if isinstance(value, int | float) else RetrySpec().stall_seconds
