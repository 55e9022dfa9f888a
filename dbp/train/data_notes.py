"""What the user should know of a job's data before training: the readers' notes."""

from __future__ import annotations

from dbp.data.dataset import DataInfo


def data_notes(
    train: DataInfo, validation: DataInfo | None, test: DataInfo | None
) -> tuple[str, ...]:
    """The notes of each data set, with the path of its field.

    ``validation``: None where it is held out of the training set.
    """
    sets = {"data.train": train, "data.validation": validation, "data.test": test}
    return tuple(
        f"{path}: {note}"
        for path, info in sets.items()
        if info is not None
        for note in info.notes
    )
