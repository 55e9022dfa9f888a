"""Validate a job spec: report all violations at once, before anything is started.

It builds every component, checks rules over several fields, and, if the data are known, checks
that shapes fit together and the model stays within its budget. It reads no data and allocates
no arrays.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from dbp.errors import InvalidSpec
from dbp.job.component import Components, build_component, build_components
from dbp.job.decode import draft, encode, in_order
from dbp.job.resolved import ResolvedSpec, digest_of
from dbp.job.rules import cross_field_violations
from dbp.job.shapes import DataShape, ModelShapes, check_data, check_shapes
from dbp.job.spec import Component, Holdout, JobSpec
from dbp.registry import Group, describe

__all__ = [
    "DataShape",
    "ModelShapes",
    "ResolvedSpec",
    "build_component",
    "check_data",
    "check_shapes",
    "digest_of",
    "resolve",
]

DEFAULT_PUBLISH_SECONDS: Final = 2.0
DEFAULT_CHECKPOINT_SECONDS: Final = 60.0


def resolve(spec: JobSpec, data: DataShape | None = None) -> ResolvedSpec:
    """Return the spec with every default filled in and its components built.

    Raises InvalidSpec with all violations. With ``data`` the shapes are checked too, as
    ``check_data`` does.
    """
    document = encode(spec)
    checked, violations = draft(document)
    if checked is None:
        raise InvalidSpec(violations)
    decoded_well = not violations
    built = build_components(checked, violations)
    if decoded_well:
        violations += cross_field_violations(checked, built)
    if violations:
        raise InvalidSpec(in_order(violations, document))
    resolved = _resolved(checked, built)
    if data is not None:
        check_data(resolved, data)
    return resolved


def _resolved(spec: JobSpec, built: Components) -> ResolvedSpec:
    """Return the resolved spec; every component has been built."""
    layers = tuple(layer for layer in built.layers if layer is not None)
    validation = spec.data.validation
    if not isinstance(validation, Holdout):
        validation = _described("readers", built.validation)
    publish = spec.publish
    if publish.every_steps is None and publish.every_seconds is None:
        publish = dataclasses.replace(publish, every_seconds=DEFAULT_PUBLISH_SECONDS)
    checkpoint = spec.checkpoint
    if checkpoint.every_steps is None and checkpoint.every_seconds is None:
        checkpoint = dataclasses.replace(checkpoint, every_seconds=DEFAULT_CHECKPOINT_SECONDS)
    metrics = tuple(_described("metrics", metric) for _, metric in built.metrics)
    full = dataclasses.replace(
        spec,
        data=dataclasses.replace(
            spec.data,
            train=_described("readers", built.train),
            validation=validation,
            test=_described("readers", built.test),
        ),
        model=dataclasses.replace(
            spec.model,
            layers=tuple(_described("layers", layer.layer) for layer in layers),
            loss=_described("losses", built.loss),
            metrics=metrics or None,
        ),
        optimizer=_described("optimizers", built.optimizer),
        checkpoint=checkpoint,
        publish=publish,
    )
    document = encode(full)
    return ResolvedSpec(
        spec=full,
        document=document,
        digest=digest_of(document),
        layers=tuple(layer.layer for layer in layers),
        layer_kinds=tuple(layer.kind for layer in layers),
        layer_paths=tuple(layer.path for layer in layers),
        loss=built.loss,
        metrics=built.metrics,
        optimizer=built.optimizer,
        train_reader=built.train,
        validation_reader=built.validation,
        test_reader=built.test,
    )


def _described(group: Group, component: Any) -> Any:
    """Return the Component that would build this one again; None stays None."""
    if component is None:
        return None
    table = describe(group, component)
    return Component(table.pop("kind"), table)
