"""Check a job before a long run (``dbp check``): its data, its gradients, its lanes.

Each of the three checks yields findings about the user's own data and model. It writes no
files and needs no MPI: ranks are threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from dbp.errors import DbpError
from dbp.train.build import Setup
from dbp.train.check.data import check_data
from dbp.train.check.finding import Finding, OnProgress, fault_message, ignore_progress
from dbp.train.check.gradient import check_gradient
from dbp.train.check.lanes import check_lanes

__all__ = ["Finding", "OnProgress", "check_job"]


def check_job(
    setup: Setup, *, steps: int = 5, on_progress: OnProgress = ignore_progress
) -> Iterator[Finding]:
    """Check the data and the gradients; train ``steps`` steps on 1, 2 and 3 ranks.

    An exception of a layer or a loss is a finding, too. Errors in the spec or the data raise
    InvalidSpec or InvalidData, as in training.
    """
    yield from _survived(setup, "data", lambda: check_data(setup, on_progress=on_progress))
    yield from _survived(
        setup, "gradient", lambda: check_gradient(setup, on_progress=on_progress)
    )
    yield from _survived(
        setup, "lanes", lambda: check_lanes(setup, steps=steps, on_progress=on_progress)
    )


def _survived(
    setup: Setup,
    subject: Literal["data", "gradient", "lanes"],
    begin: Callable[[], Iterator[Finding]],
) -> Iterator[Finding]:
    """Yield the findings of a check; turn an exception into a failed finding."""
    try:
        yield from begin()
    except DbpError:
        raise
    except Exception as error:
        yield Finding(subject, "failed", fault_message(setup, error))
