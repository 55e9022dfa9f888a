"""`dbp params diff`: compare two versions of a job's parameters, tensor by tensor."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Self

import click

from dbp.cli.arguments.job import JOB
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.arguments.version import VERSION, VersionName
from dbp.cli.screen.output import (
    echo,
    echo_json,
    output_option,
    service_option,
    table,
    version_content,
)
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np

    from dbp.client.job import JobHandle
    from dbp.client.parameter_set import ParameterSet


@dataclass(frozen=True)
class Change:
    """Change from a to b. ``relative`` and ``cosine`` are None where a norm is zero."""

    name: str
    norm: float
    change: float
    relative: float | None
    cosine: float | None
    largest: float


@dataclass(frozen=True)
class Sums:
    """Sums of squares and products in float64 from which a change is computed; they add up over
    tensors.
    """

    squares: float = 0.0
    other_squares: float = 0.0
    products: float = 0.0
    change_squares: float = 0.0
    largest: float = 0.0

    @classmethod
    def between(cls, a: np.ndarray, b: np.ndarray) -> Self:
        """Return the sums of one tensor."""
        import numpy as np

        a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        squares, other_squares, products = float(a @ a), float(b @ b), float(a @ b)
        b -= a
        largest = max(b.max(initial=0.0), -b.min(initial=0.0))
        return cls(squares, other_squares, products, float(b @ b), float(largest))

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            squares=self.squares + other.squares,
            other_squares=self.other_squares + other.other_squares,
            products=self.products + other.products,
            change_squares=self.change_squares + other.change_squares,
            largest=max(self.largest, other.largest),
        )

    def change(self, name: str) -> Change:
        """Return the change that these sums describe."""
        norm, change = math.sqrt(self.squares), math.sqrt(self.change_squares)
        return Change(
            name, norm, change, change / norm if norm else None, self._cosine(), self.largest
        )

    def _cosine(self) -> float | None:
        if not self.squares or not self.other_squares:
            return None
        small, large = sorted((self.squares, self.other_squares))
        # So that nothing vanishes on the way, and of equal vectors it is 1 to the last bit.
        cosine = self.products / large * (math.sqrt(large) / math.sqrt(small))
        return math.copysign(1.0, cosine) if abs(cosine) > 1.0 else cosine


@click.command()
@click.argument("job", type=JOB)
@click.argument("a", type=VERSION)
@click.argument("b", type=VERSION, default="latest")
@service_option
@output_option
def diff(job: str, a: VersionName, b: VersionName, service: str, output: str) -> None:
    """Compare versions A and B of JOB.

    A and B are version numbers, latest (the default of B), labels such as best, or step:N. The
    table has a row for each tensor, then for all weights, all biases, all statistics (of batch
    normalization) and all tensors. NORM: norm of A. CHANGE: norm of B - A. RELATIVE: CHANGE /
    NORM. COSINE: cosine of the angle between A and B. LARGEST: largest magnitude of an element
    of B - A.

    \b
    Examples:
      dbp params diff digits-7k2m9q 3 latest
      dbp params diff digits-7k2m9q best step:1200
    """
    with connect(service) as client:
        handle = find_job(client, job)
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
    echo(
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
    echo(table([("TENSOR", "NORM", "CHANGE", "RELATIVE", "COSINE", "LARGEST"), *rows]))


def changes_of(a: ParameterSet, b: ParameterSet) -> list[Change]:
    """Return the change of each tensor, of each kind of tensor, and of all together."""
    sums = {name: Sums.between(a[name], b[name]) for name in a.tensors}
    groups: dict[str, Sums] = {}
    for name, found in sums.items():
        for title in (_kind(name), "all"):
            groups[title] = groups.get(title, Sums()) + found
    titles = ("all weights", "all biases", "all statistics", "all")
    shown = {**sums, **{title: groups[title] for title in titles if title in groups}}
    return [found.change(name) for name, found in shown.items()]


def _kind(name: str) -> str:
    """Return the kind of a tensor; statistics (of batch normalization) are measured, not
    trained.
    """
    from dbp.nn.role import is_bias

    own = name.rpartition(".")[2]
    if own.startswith("running_"):
        return "all statistics"
    return "all biases" if is_bias(name) else "all weights"


def _version(job: JobHandle, which: VersionName) -> ParameterSet:
    found = job.parameters(**which.reading())
    if found is None:  # not without newer_than
        raise click.ClickException("the service sent no parameters")
    return found
