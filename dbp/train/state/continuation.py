"""Check that a run may continue from a checkpoint: the same spec and data, steps left."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dbp.errors import DataChanged, InvalidFile, InvalidInput
from dbp.job.spec.continuation import differences as spec_differences
from dbp.job.spec.job_spec import Holdout, TrainSpec
from dbp.option_names import option
from dbp.quantities import count_text
from dbp.train.build import Setup
from dbp.train.model.columns import input_difference
from dbp.train.plan import Plan
from dbp.train.state.checkpoint import Checkpoint
from dbp.train.state.data_identity import differences as data_differences
from dbp.train.state.position import Facts, Identity

logger = logging.getLogger("dbp")

Data = Mapping[str, Identity]


@dataclass(frozen=True)
class Terms:
    """Conditions of a resume: the changes that it accepts, and facts from the service.

    Attributes:
        new_data: Accept other data than those of the checkpoint.
        spec_digest: Digest of the spec file in the run folder; checkpoints of older versions
            contain only this digest.
        extended: The user requested a longer run, so steps must be left.
        unattended: A service resumes the run, and no user can choose: if all checkpoints are
            damaged, start over.
        published: Roll-backs and step of the newest version that the run has published. Until
            they are passed, no version but the final one is published.
    """

    new_data: bool = False
    spec_digest: str = ""
    extended: bool = False
    unattended: bool = False
    published: tuple[int, int] = (0, 0)


def facts_of(setup: Setup, data: Data, new_data_at: list[int]) -> Facts:
    """Return the spec, data and length of a run for its checkpoints, as a JSON object.

    ``new_data_at`` lists the steps after which the run continued on other data.
    """
    return {
        "spec": setup.resolved.document,
        "data": data,
        "new_data_at": new_data_at,
        "total_steps": setup.plan.total_steps,
    }


def check_spec(folder: Path, found: Checkpoint, setup: Setup, terms: Terms) -> None:
    """Raise InvalidFile unless the checkpoint has this spec; its length may differ."""
    resolved = setup.resolved
    if "spec" in found.facts:
        other = spec_differences(found.facts["spec"], resolved.document, data=False)
    else:
        known = found.spec_digest in (resolved.digest, terms.spec_digest)
        other = () if known else ("its digest differs",)
    if other:
        raise InvalidFile(
            f"{folder}: its checkpoints belong to another spec than this run's"
            + "".join(f"\n  {line}" for line in other)
        )


def check_data(
    folder: Path, found: Checkpoint, setup: Setup, data: Data, terms: Terms
) -> list[int]:
    """Raise DataChanged if the data are not those of the checkpoint, unless allowed.

    New data must have the same inputs in the same order, if both have names.
    Returns the steps after which the run continued on other data.
    """
    changed_at = [int(step) for step in found.facts.get("new_data_at", [])]
    if "data" not in found.facts:
        logger.warning(
            "the checkpoint of step %d does not record its data; dbp cannot check that they "
            "are the same",
            found.step,
        )
        return changed_at
    other = data_differences(found.facts["data"], data)
    if not other:
        return changed_at
    text = "".join(f"\n  {line}" for line in other)
    if not terms.new_data:
        remedy = "restore the data"
        if not terms.unattended:
            remedy += f", or continue on the new ones with {option('new_data')}"
        raise DataChanged(
            f"{folder}: the data are not those of the checkpoint of step "
            f"{found.step:,}{text}\n{remedy}"
        )
    train = found.facts["data"].get("data.train")
    kept = tuple(train.get("input_names", ())) if train is not None else ()
    problem = input_difference(setup.train.info.input_names, kept)
    if problem:
        spec = folder.parent / "spec.json"
        raise InvalidInput(
            f"{option('new_data')}: {folder}: {problem}\nthe run's settings are in {spec}"
        )
    logger.warning("step %d: the run continues on other data%s", found.step, text)
    if isinstance(setup.resolved.spec.data.validation, Holdout):
        logger.warning(
            "the held-out rows are drawn again: rows that were trained on may be among them"
        )
    return [*changed_at, found.step]


def schedule_remedy() -> str:
    """Return how a learning rate that depends on the run's length continues beyond it."""
    return (
        f"add {option('schedule', 'keep')} (as planned; constant at its last value beyond the "
        f"planned end) or {option('schedule', 'stretch')} (planned for the new length from "
        "this step on)"
    )


def check_steps_left(plan: Plan, train: TrainSpec, step: int, *, extended: bool) -> None:
    """Raise InvalidInput if the run has already taken more steps than are planned now.

    With ``extended`` also if it has taken exactly as many.
    """
    if plan.total_steps > step or (plan.total_steps == step and not extended):
        return
    asked = f"train.epochs = {train.epochs}" if train.epochs else f"train.steps = {train.steps}"
    raise InvalidInput(
        f"{asked}: plans {count_text(plan.total_steps, 'step')}, "
        f"{plan.steps_per_epoch:,} an epoch, but the run has already taken {step:,}; ask for "
        f"more with {option('epochs', 'N')} or {option('steps', 'N')}"
    )


def check_length(found: Checkpoint, setup: Setup, terms: Terms) -> None:
    """Raise InvalidInput if the run cannot continue for the length that is planned now."""
    plan = setup.plan
    check_steps_left(plan, setup.resolved.spec.train, found.step, extended=terms.extended)
    planned = found.facts.get("total_steps", plan.total_steps)
    train = found.facts.get("spec", {}).get("train")
    steps = train.get("schedule_steps") if isinstance(train, Mapping) else None
    known = tuple(steps) if isinstance(steps, list | tuple) else ()
    rate = setup.resolved.optimizer.learning_rate
    if planned == plan.total_steps or known != plan.schedule_steps or len(known) % 2:
        return
    if rate.uses_total_steps():
        raise InvalidInput(
            f"the learning rate was planned for {count_text(planned, 'step')}, and the run has "
            f"{plan.total_steps:,} now; {schedule_remedy()}"
        )


def zero_rate_note(setup: Setup) -> str:
    """Return a note if the learning rate is 0 in the last steps of a longer run; else ""."""
    plan, schedule = setup.plan, setup.resolved.optimizer.learning_rate
    length = plan.schedule_length(plan.total_steps)
    if length >= plan.total_steps or schedule.value(length, length) > 0:
        return ""
    return (
        f"the learning rate's schedule ends at step {length:,} with a rate of 0, so the steps "
        f"after it change nothing; {option('schedule', 'stretch')} plans it for the new length"
    )
