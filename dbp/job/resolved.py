"""A spec that has passed validation, with the components it builds, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbp.job.spec import JobSpec


@dataclass(frozen=True)
class ResolvedSpec:
    """A valid spec with every default filled in and layers expanded, and its components.

    ``digest`` is the SHA-256 of ``document`` as canonical JSON. ``layer_paths`` and
    ``layer_kinds`` say where each layer was written and of which kind it is.
    """

    spec: JobSpec
    document: Mapping[str, Any]
    digest: str
    layers: tuple[Any, ...]
    layer_kinds: tuple[str, ...]
    layer_paths: tuple[str, ...]
    loss: Any
    metrics: tuple[tuple[str, Any], ...]
    optimizer: Any
    train_reader: Any
    validation_reader: Any | None
    test_reader: Any | None


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document as canonical JSON, in hexadecimal."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
