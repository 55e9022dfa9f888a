"""Change the length of a run that is resumed (``dbp train --resume RUN --epochs N``).

The new length counts from the first step of the run, as in a spec. If the learning rate
depends on the length, its schedule is either kept as planned, and constant at its last value
after its end, or stretched: planned for the new length from the present step on.
``train.schedule_steps`` records this, so that a later resume, and ``dbp verify``, compute the
same rates.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dbp.errors import InvalidInput
from dbp.job.ending_text import cause_text, ending_word
from dbp.job.spec.document import with_train
from dbp.job.spec.resolve import resolve
from dbp.option_names import either, option
from dbp.quantities import duration_text
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.check.inspection import read_headers
from dbp.train.plan import CONTINUABLE, TIME, Plan, make_plan
from dbp.train.report.run_contents import check_run
from dbp.train.report.run_files import PARAMETERS, read_outcome
from dbp.train.run_spec import RunSpec, run_spec
from dbp.train.state.checkpoint import glance
from dbp.train.state.continuation import check_steps_left, schedule_remedy
from dbp.train.state.position import Facts, Position


@dataclass(frozen=True)
class Longer:
    """The length options of ``dbp train --resume``.

    ``max_seconds`` limits training in this process. It replaces ``train.max_seconds``, which
    counts all parts of a run, and is not stored in the spec, so that a chain of such processes
    leaves the same files as one long run.
    """

    epochs: int | None = None
    steps: int | None = None
    max_seconds: float | None = None
    schedule: Literal["keep", "stretch"] | None = None

    @property
    def length(self) -> bool:
        """Whether the options set another number of steps."""
        return self.epochs is not None or self.steps is not None

    @property
    def changes_spec(self) -> bool:
        """Whether the options change the spec of the run."""
        return self.length or self.schedule is not None

    def of(self, document: object) -> object:
        """Return a spec's document with the length of the options, if they set one."""
        if not self.length:
            return document
        return with_train(document, epochs=self.epochs, steps=self.steps)


def check_resumable(folder: Path, longer: Longer | None = None) -> bool:
    """Raise InvalidInput unless the folder contains a run that can continue to ``longer``.

    Returns whether the run had reached its planned end.
    """
    longer = longer or Longer()
    check_run(folder)
    outcome = read_outcome(folder)
    if outcome is None or outcome.status != "succeeded":
        return False
    reason = outcome.reason
    resume = either(f"dbp train --resume {shlex.quote(str(folder))} ", "")
    if reason not in CONTINUABLE:
        raise InvalidInput(
            f"{folder}: this run {ending_word(reason)} at step {outcome.step}"
            f"{cause_text(reason)} and cannot be resumed; to train its parameters further, "
            "start a new run with this line under [train]: initial_parameters = "
            f"{json.dumps(str((folder / PARAMETERS).resolve()), ensure_ascii=False)}"
        )
    if reason != TIME and not longer.length:
        raise InvalidInput(
            f"{folder}: this run has ended: all of its {reason} are done (step "
            f"{outcome.step}). To train longer: {resume}{option('epochs', 'N')} "
            f"(or {option('steps', 'N')})"
        )
    return True


def extended(
    document: object, folder: Path, longer: Longer, *, new_data: bool = False
) -> object:
    """Return the document of the run in a folder, with the requested length.

    With ``new_data`` the data may have changed, and with them the steps of an epoch. Raises
    InvalidInput if the run cannot get this length.
    """
    ended = check_resumable(folder, longer)
    found = glance(folder / CHECKPOINTS)
    if found is None and ended:
        raise InvalidInput(
            f"{folder / CHECKPOINTS}: contains no sound checkpoint to continue from; to train "
            "the run's parameters further, start a new run with train.initial_parameters"
        )
    step, seconds, facts = (0, 0.0, Facts()) if found is None else _progress(found)
    resolved = run_spec(resolve(document))
    train = resolved.spec.train
    if longer.max_seconds is None and (ended or longer.length):
        _check_time(folder, train.max_seconds, seconds)
    if not longer.changes_spec:
        return document
    wanted = longer.of(document)
    changes = new_data or (
        longer.length and (longer.epochs, longer.steps) != (train.epochs, train.steps)
    )
    schedule = _schedule(resolved, wanted, longer, step, facts, changes=changes)
    return with_train(wanted, schedule_steps=schedule)


def _check_time(folder: Path, limit: float | None, seconds: float) -> None:
    """Raise InvalidInput if the run has used the time that its spec allows."""
    if limit is not None and seconds >= limit:
        raise InvalidInput(
            f"{folder}: the run has trained for {duration_text(seconds)}, and its "
            f"train.max_seconds is {limit:g}; add {option('max_seconds', 'SECONDS')}, "
            "the time from here on"
        )


def _schedule(
    resolved: RunSpec,
    wanted: object,
    longer: Longer,
    step: int,
    facts: Facts,
    *,
    changes: bool,
) -> tuple[int, ...] | None:
    """Return ``train.schedule_steps`` for the new length, which the document ``wanted`` has."""
    known = resolved.spec.train.schedule_steps
    depends = resolved.optimizer.learning_rate.uses_total_steps()
    if longer.schedule is not None and not depends:
        raise InvalidInput(
            f"{either('--schedule', 'schedule')}: the learning rate of this run does not "
            "depend on its length; remove the option"
        )
    if longer.schedule is not None and not (changes or longer.length):
        raise InvalidInput(
            f"{either('--schedule', 'schedule')} needs another length; add "
            f"{option('epochs', 'N')} or {option('steps', 'N')}"
        )
    if not (changes and depends):
        return known
    if longer.schedule is None and step and longer.length:
        asked = run_spec(resolve(wanted))
        check_steps_left(_plan(asked), asked.spec.train, step, extended=True)
        raise InvalidInput(
            f"the learning rate depends on the length of the run; {schedule_remedy()}"
        )
    if longer.schedule is None:
        return known
    lengths = known or ()
    if len(lengths) % 2 == 0:  # the last part is planned for the length of the run
        lengths = (*lengths, int(facts.get("total_steps") or _plan(resolved).total_steps))
    if longer.schedule == "stretch":
        return (*lengths, step) if step else known
    return lengths


def _progress(found: tuple[int, Position, Facts]) -> tuple[int, float, Facts]:
    step, position, facts = found
    return step, float(position.get("seconds", 0.0)), facts


def _plan(resolved: RunSpec) -> Plan:
    return make_plan(resolved.spec.train, read_headers(resolved).training_samples)
