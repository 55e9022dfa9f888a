"""What can be proved of a job before a long run: its data, its gradients, its lanes.

Three checks, each a stream of findings, over the user's own data and model. Nothing is
written, and no MPI is needed: ranks are threads.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Literal

from dbp.errors import DbpError
from dbp.train.build import Setup
from dbp.train.check_data import check_data
from dbp.train.check_finding import Finding, Told, untold
from dbp.train.check_gradient import check_gradient
from dbp.train.check_lanes import check_lanes

__all__ = ["Finding", "Told", "check_job"]


def check_job(setup: Setup, *, steps: int = 5, told: Told = untold) -> Iterator[Finding]:
    """Look at the data, compare gradients with differences, train ``steps`` steps thrice.

    A layer or a loss that raises is a finding, too; what is wrong with the spec or the data
    raises as it does in training (InvalidSpec, InvalidData).
    """
    yield from _survived("data", lambda: check_data(setup, told=told))
    yield from _survived("gradient", lambda: check_gradient(setup, told=told))
    yield from _survived("lanes", lambda: check_lanes(setup, steps=steps, told=told))


def _survived(
    subject: Literal["data", "gradient", "lanes"], begin: Callable[[], Iterator[Finding]]
) -> Iterator[Finding]:
    """The findings, and a failed one where something raised."""
    try:
        yield from begin()
    except DbpError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        yield Finding(subject, "failed", text)
