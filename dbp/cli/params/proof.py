"""Verify parameters that came from a service, and list the verified properties."""

from __future__ import annotations

import hashlib

import numpy as np

from dbp.client.parameter_set import ParameterSet
from dbp.errors import CorruptParameters
from dbp.job.state import Job


def proof_of(job: Job, found: ParameterSet) -> list[str]:
    """Return one line for each property that holds; CorruptParameters if one does not.

    The client has verified the bytes on arrival; here they are verified again from memory.
    """
    version, metadata = found.version, found.metadata
    expected = {
        "dbp.job": job.id,
        "dbp.version": str(version.version),
        "dbp.step": str(version.step),
        "dbp.previous_digest": version.previous_digest,
        "dbp.spec_digest": job.spec_digest,
    }
    if not version.spec_digest:  # of an older dbp, whose files do not name the spec
        expected["dbp.spec_digest"] = metadata.get("dbp.spec_digest", "")
    wrong = {name for name, value in expected.items() if metadata.get(name, "") != value}
    if wrong:
        raise _refuted(
            found, f"its metadata differ from the version in {', '.join(sorted(wrong))}"
        )
    bad = [name for name, array in found.tensors.items() if not _finite(array)]
    if bad:
        raise _refuted(found, f"values that are NaN or infinite in {', '.join(bad)}")
    digest = hashlib.sha256(found.content).hexdigest()
    whole = digest == version.digest
    origin = (
        "the version's"
        if whole
        else "of the tensors sent (selected or cast), not of the whole version"
    )
    named = f"job {job.id}, version {version.version}, step {version.step}"
    return [
        f"sha256 {digest}, {len(found.content):,} bytes: {origin}",
        f"metadata: {named}, the digests of the version before and of the spec",
        "every value is finite",
    ]


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array.astype(np.float64)).all())


def _refuted(found: ParameterSet, text: str) -> CorruptParameters:
    return CorruptParameters(
        f"version {found.version.version}: {text}", version=found.version.version
    )
