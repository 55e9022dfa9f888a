"""`dbp train --resume RUN`: the options that fit, the spec and folder of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dbp.train.continuation import Terms


def folder_to_resume(resumed: Path | None, asked: dict[str, Any]) -> dict[str, Any]:
    """The spec and the folder of the run that is resumed, or of one that begins.

    Raises UsageError for options that do not fit, InvalidInput where the run cannot be
    resumed.
    """
    if resumed is None:
        if asked["spec"] is None:
            raise click.UsageError("needs a SPEC, or --resume RUN")
        if asked["new_data"]:
            raise click.UsageError("--new-data is for --resume RUN")
        return {"resume": False}
    for name in ("spec", "folder", "overwrite", "epochs", "steps"):
        if asked[name]:
            option = "SPEC" if name == "spec" else "--run" if name == "folder" else f"--{name}"
            raise click.UsageError(f"--resume uses the settings of RUN; remove {option}")
    from dbp.train.run_files import SPEC, check_resumable

    check_resumable(resumed)
    return {"spec": resumed / SPEC, "folder": resumed, "resume": True}


def resume_terms(folder: Path, *, new_data: bool) -> Terms:
    """What the resumed run may find changed."""
    from dbp.train.continuation import Terms
    from dbp.train.run_files import written_spec_digest

    return Terms(new_data=new_data, spec_digest=written_spec_digest(folder))
