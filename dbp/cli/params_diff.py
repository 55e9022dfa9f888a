"""`dbp params diff`: what has changed between two versions of a job's parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import click

from dbp.cli.output import echo_json, output_option, service_option, table, version_content
from dbp.cli.ranges import COUNT, COUNT_OR_NONE
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np

    from dbp.client.job import JobHandle
    from dbp.client.parameter_set import ParameterSet


@dataclass(frozen=True)
class Change:
    """From a to b, in float64. ``relative`` and ``cosine`` are None where a norm is zero."""

    name: str
    norm: float
    change: float
    relative: float | None
    cosine: float | None
    largest: float

    @classmethod
    def between(cls, name: str, a: np.ndarray, b: np.ndarray) -> Self:
        """Of one tensor, or of several joined."""
        import numpy as np

        a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        norm, other = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        step = b - a
        change = float(np.linalg.norm(step))
        return cls(
            name,
            norm,
            change,
            change / norm if norm else None,
            float(a @ b) / (norm * other) if norm and other else None,
            float(np.abs(step).max(initial=0.0)),
        )


def _which(ctx: click.Context, param: click.Parameter, text: str | None) -> Mapping[str, Any]:
    """Which version, as what ``JobHandle.parameters`` is told of it; None in a completion."""
    if text is None or text in ("latest", "newest"):
        return {}
    if text.startswith("step:"):
        number = text.removeprefix("step:")
        if not number.isdecimal():
            raise click.BadParameter(f"{text!r}: expected step:N, such as step:1200")
        return {"step": COUNT_OR_NONE(number, param, ctx)}
    if not text.isdecimal():
        return {"label": text}
    if not text.strip("0"):
        raise click.BadParameter("version 0: versions count from 1; latest is the newest")
    return {"version": COUNT(text, param, ctx)}


@click.command()
@click.argument("job")
@click.argument("a", callback=_which)
@click.argument("b", callback=_which, default="latest")
@service_option
@output_option
def diff(
    job: str, a: Mapping[str, Any], b: Mapping[str, Any], service: str, output: str
) -> None:
    """Compare versions A and B of JOB: each tensor, then weights and biases apart.

    A and B are version numbers, step:N, labels such as best, or latest (the default of B).
    NORM is that of A, CHANGE the norm of B - A, COSINE that of the angle between A and B.

    \b
    Examples:
      dbp params diff digits-7k2m9q 3 latest
      dbp params diff digits-7k2m9q best step:1200
    """
    from dbp.client.client import Client

    with Client(service) as client:
        handle = client.job(job)
        first, second = _version(handle, a), _version(handle, b)
    if first.tensors.keys() != second.tensors.keys():
        raise InvalidInput("A, B: these versions do not hold the same tensors")
    changes = changes_of(first, second)
    if output == "json":
        echo_json(
            {
                "job": handle.id,
                "a": version_content(first.version),
                "b": version_content(second.version),
                "tensors": [asdict(change) for change in changes],
            }
        )
        return
    click.echo(
        f"{handle.id}: version {first.version.version} (step {first.version.step:,}) to "
        f"version {second.version.version} (step {second.version.step:,})"
    )
    rows = [
        (
            change.name,
            f"{change.norm:.6g}",
            f"{change.change:.6g}",
            "-" if change.relative is None else f"{change.relative:.2%}",
            "-" if change.cosine is None else f"{change.cosine:.6f}",
            f"{change.largest:.4g}",
        )
        for change in changes
    ]
    click.echo(table([("TENSOR", "NORM", "CHANGE", "RELATIVE", "COSINE", "LARGEST"), *rows]))


def changes_of(a: ParameterSet, b: ParameterSet) -> list[Change]:
    """Of each tensor; then of all weights, of all biases and of everything."""
    names = list(a.tensors)
    biases = [name for name in names if name.endswith("bias")]
    weights = [name for name in names if name not in biases]
    changes = [Change.between(name, a[name], b[name]) for name in names]
    groups = (("all weights", weights), ("all biases", biases), ("all", names))
    return changes + [
        Change.between(title, _joined(a, group), _joined(b, group))
        for title, group in groups
        if group
    ]


def _joined(found: ParameterSet, names: Iterable[str]) -> np.ndarray:
    import numpy as np

    joined: np.ndarray = np.concatenate(
        [found[name].astype(np.float64).ravel() for name in names]
    )
    return joined


def _version(job: JobHandle, which: Mapping[str, Any]) -> ParameterSet:
    found = job.parameters(**which)
    if found is None:  # not without newer_than
        raise click.ClickException("the service sent no parameters")
    return found
