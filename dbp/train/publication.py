"""When the live parameters are handed out, and what goes with them. Rank 0's business alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import numpy as np

from dbp.job.snapshot import ROLLBACKS, Manifest, manifest_of
from dbp.job.spec import PublishSpec
from dbp.train.build import Setup
from dbp.train.columns import columns_metadata

# Early epochs can be short and each the best so far: no more than one version a second of them.
BEST_SECONDS: Final = 1.0

SAFETENSORS_DTYPES: Final = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}


@final
class Publication:
    """The policy of one run: every so many steps, every so many seconds, or both."""

    def __init__(self, spec: PublishSpec, clock: Callable[[], float]) -> None:
        self._steps = spec.every_steps
        self._seconds = spec.every_seconds
        self._clock = clock
        self._last: float | None = None

    def due(self, step: int) -> bool:
        """Whether the parameters after this step become a version.

        With ``every_seconds`` the first step is published, so that whoever follows the run
        soon has something to begin with.
        """
        by_steps = self._steps is not None and step % self._steps == 0
        return by_steps or (self._seconds is not None and self._silent_for(self._seconds))

    def best_due(self) -> bool:
        """Whether the best parameters so far, if they wait, may become a version now."""
        return self._silent_for(BEST_SECONDS)

    def published(self) -> None:
        """A version has been handed out: time starts anew."""
        self._last = self._clock()

    def _silent_for(self, seconds: float) -> bool:
        return self._last is None or self._clock() - self._last >= seconds


def metadata_of(setup: Setup) -> dict[str, str]:
    """What a parameter file says besides its tensors, but for the step."""
    spec = setup.resolved.spec
    metadata = {
        "format": "pt",
        "dbp.job": spec.name,
        "dbp.spec_digest": setup.resolved.digest,
        "dbp.model": json.dumps(setup.resolved.document["model"], separators=(",", ":")),
        "dbp.input_shape": json.dumps(list(setup.model.input_shape)),
        "dbp.scaling": setup.scaling.to_json(),
    }
    if setup.class_names:
        metadata["dbp.classes"] = json.dumps(list(setup.class_names), ensure_ascii=False)
    return metadata | columns_metadata(setup.train.info)


def metadata_at(
    metadata: Mapping[str, str], step: int, metrics: Mapping[str, float]
) -> dict[str, str]:
    """The metadata of the parameters after this step, with what was measured of them.

    ``metrics`` that are no numbers are left out, for JSON has none of these.
    """
    strings = {**metadata, "dbp.step": str(step)}
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    if finite:
        strings["dbp.metrics"] = json.dumps(finite, separators=(",", ":"))
    return strings


def manifest_at(setup: Setup, metadata: Mapping[str, str], rollbacks: int = 0) -> Manifest:
    """The manifest of parameters with this metadata, taken after so many rollbacks."""
    dtype = SAFETENSORS_DTYPES[np.dtype(setup.model.dtype)]
    shapes: Mapping[str, Any] = setup.model.tensor_shapes
    strings = dict(metadata)
    if rollbacks:
        strings[ROLLBACKS] = str(rollbacks)
    return manifest_of(shapes, dtype, strings)
