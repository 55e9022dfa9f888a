"""Load the trained model that a command names: of a run folder, a file or a job's version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.source import Source
from dbp.cli.arguments.version import VersionName
from dbp.json_value import JsonValue
from dbp.train.model.trained_model import TrainedModel


@dataclass(frozen=True)
class Trained:
    """A model, and where it is from: its parameter file, or the spec of its job."""

    model: TrainedModel
    file: Path | None
    spec: Mapping[str, JsonValue]


def load_trained(source: Source, service: str, chosen: VersionName) -> Trained:
    """Return the model of a source; ``chosen`` names the version of a job."""
    if (file := source.file) is not None:
        return Trained(TrainedModel.load(file), file, {})
    with source.asking(), connect(service) as client:
        job = find_job(client, source.text)
        found = job.parameters(**chosen.reading())
        if found is None:  # not without newer_than
            raise click.ClickException("the service sent no parameters")
        model = TrainedModel.from_bytes(bytes(found.content), job.id)
        return Trained(model, None, job.get().spec)
