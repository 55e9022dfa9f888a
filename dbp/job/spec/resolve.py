"""Resolve a document: check its fields, build its components, fill in every default.

All violations are reported at once, before anything is started. It reads no data and allocates
no arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Final, TypeVar

from dbp.data_roots import DataRoots
from dbp.errors import InvalidSpec, Violation
from dbp.job.spec.check import check, in_order
from dbp.job.spec.component import NO_READERS, Components, Readers, build_components
from dbp.job.spec.contracts import (
    LayerContract,
    LossContract,
    MetricContract,
    OptimizerContract,
)
from dbp.job.spec.document import document_of
from dbp.job.spec.job_spec import (
    CheckpointSpec,
    Component,
    DataSpec,
    JobSpec,
    PublishSpec,
)
from dbp.job.spec.paths import check_paths
from dbp.job.spec.rules import cross_field_violations
from dbp.json_value import JsonObject
from dbp.option_types import fields_of
from dbp.registry import Group, describe

T = TypeVar("T", CheckpointSpec, PublishSpec)

DEFAULT_PUBLISH_SECONDS: Final = 2.0
DEFAULT_CHECKPOINT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class ResolvedSpec:
    """A valid spec with every default filled in and layers expanded, and its components.

    ``digest`` is the SHA-256 of ``document`` as canonical JSON. ``layer_paths`` and
    ``layer_kinds`` say where each layer was written and of which kind it is.
    """

    spec: JobSpec
    document: JsonObject
    digest: str
    layers: tuple[LayerContract, ...]
    layer_kinds: tuple[str, ...]
    layer_paths: tuple[str, ...]
    loss: LossContract
    metrics: tuple[tuple[str, MetricContract], ...]
    optimizer: OptimizerContract
    train_reader: object
    validation_reader: object | None
    test_reader: object | None
    sinks: tuple[object, ...]


def resolve(
    document: object,
    *,
    data_roots: DataRoots | None = None,
    readers: Readers = NO_READERS,
) -> ResolvedSpec:
    """Return the spec of a document, with every default filled in and its components built.

    Args:
        document: Plain values, as TOML and JSON have them.
        data_roots: Folders that file options must be in; None: any.
        readers: Readers of data in memory, in place of those that the document names; the
            resolved spec keeps the document's words for them.

    Raises InvalidSpec with all violations; those of components only if all fields are valid
    and all files allowed.
    """
    spec = check(document, readers=readers)
    if data_roots is not None:
        check_paths(document, data_roots)
    violations: list[Violation] = []
    built = build_components(spec, violations, readers)
    violations += cross_field_violations(spec, built)
    if violations:
        raise InvalidSpec(in_order(violations, [field.name for field in fields_of(spec)]))
    return _resolved(spec, built, readers)


def digest_of(document: JsonObject) -> str:
    """Return the SHA-256 of a document as canonical JSON, in hexadecimal."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _resolved(spec: JobSpec, built: Components, readers: Readers) -> ResolvedSpec:
    """Return the resolved spec; every component has been built."""
    loss, optimizer, train = built.loss, built.optimizer, built.train
    # Otherwise there would be violations.
    assert loss is not None and optimizer is not None and train is not None  # noqa: S101, PT018
    layers = tuple(layer for layer in built.layers if layer is not None)
    full = dataclasses.replace(
        spec,
        data=_described_data(spec.data, built, readers),
        model=dataclasses.replace(
            spec.model,
            layers=tuple(_described("layers", layer.layer) for layer in layers),
            loss=_described("losses", loss),
            metrics=tuple(_described("metrics", metric) for _, metric in built.metrics) or None,
        ),
        optimizer=_described("optimizers", optimizer),
        checkpoint=_timed(spec.checkpoint, DEFAULT_CHECKPOINT_SECONDS),
        publish=_timed(spec.publish, DEFAULT_PUBLISH_SECONDS),
        report=dataclasses.replace(
            spec.report, sinks=tuple(_described("sinks", sink) for sink in built.sinks) or None
        ),
    )
    document = document_of(full)
    return ResolvedSpec(
        spec=full,
        document=document,
        digest=digest_of(document),
        layers=tuple(layer.layer for layer in layers),
        layer_kinds=tuple(layer.kind for layer in layers),
        layer_paths=tuple(layer.path for layer in layers),
        loss=loss,
        metrics=built.metrics,
        optimizer=optimizer,
        train_reader=train,
        validation_reader=built.validation,
        test_reader=built.test,
        sinks=built.sinks,
    )


def _timed(section: T, seconds: float) -> T:
    """Return the section with its default interval, if it names none."""
    if section.every_steps is None and section.every_seconds is None:
        return dataclasses.replace(section, every_seconds=seconds)
    return section


def _described(group: Group, component: object) -> Component:
    """Return the Component that would build this one again."""
    table = describe(group, component)
    return Component(str(table.pop("kind")), table)


def _described_data(data: DataSpec, built: Components, readers: Readers) -> DataSpec:
    """Return the section with every option of its readers; data in memory stay as written."""
    found = {"train": built.train, "validation": built.validation, "test": built.test}
    described = {
        name: _described("readers", reader)
        for name, reader in found.items()
        if reader is not None and f"data.{name}" not in readers
    }
    return dataclasses.replace(data, **described)  # type: ignore[arg-type]
