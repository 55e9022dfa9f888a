"""Resolve the argument that names trained parameters: a run folder, a file, or a job's id."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from dbp.errors import DbpError, InvalidFile, InvalidInput, JobNotFound, Unavailable

METAVAR: Final = "RUN_FILE_OR_JOB"

_JOB: Final = re.compile(r"(jobs/)?[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Source:
    """A run folder or a parameter file on this machine, or a job of the service.

    ``path`` is None for a job.
    """

    text: str
    path: Path | None

    @property
    def file(self) -> Path | None:
        """The parameter file; None for a job. Raises InvalidFile for a folder without one.

        Prints a note where the folder's run was continued after the file was written.
        """
        if self.path is None or not self.path.is_dir():
            return self.path
        from dbp.train.report.run_contents import is_unfinished, parameters_of

        found = parameters_of(self.path)
        if is_unfinished(self.path):
            click.echo(
                f"note: {self.path}: the run has been continued since and has not ended; these "
                "are its earlier parameters",
                err=True,
            )
        return found

    def refuse(self, **options: object) -> None:
        """Raise InvalidInput if an option is set that is for jobs; no-op for a job."""
        given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
        if self.path is not None and given:
            raise InvalidInput(
                f"{self.text}: is a file or folder here, not a job of a service; leave out "
                f"{', '.join(given)}"
            )

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Begin the error for an unknown job with the note that there is no such path here."""
        try:
            yield
        except (JobNotFound, Unavailable) as error:
            if "/" in self.text:
                raise
            job = "job" if isinstance(error, JobNotFound) else "service to ask for a job"
            text = f"{self.text}: no file or folder here, and no {job} of that name: {error}"
            raise _same_kind(error, text) from error


def source_of(text: str) -> Source:
    """Return what an argument names: a path that exists, else a job.

    A file or folder comes before a job of the same name; ``jobs/ID`` always names the job.
    Raises InvalidFile for a text that is no path here and cannot be a job's id.
    """
    path = Path(text)
    if text and path.exists():
        return Source(text, path)
    if _JOB.fullmatch(text):
        return Source(text, None)
    from dbp.job.spec.load import nearest_file

    raise InvalidFile(
        f"{text}: no such file or folder{nearest_file(text)} (a job is named by its id, such "
        "as digits-7k2m9q; dbp jobs lists them)"
    )


def _same_kind(error: DbpError, text: str) -> DbpError:
    return type(error)(text, **error.metadata)
