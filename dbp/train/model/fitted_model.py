"""The model that ``dbp.fit`` and ``dbp.load`` return: predict, evaluate, save."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from dbp.data.array_reader import ArrayReader, numbers
from dbp.data.dataset import Dataset
from dbp.errors import InvalidArgument, InvalidData, InvalidInput, alternatives
from dbp.job.state import RunOutcome
from dbp.storage.atomic_file import write_file
from dbp.train.model.answers import model_answers
from dbp.train.model.class_report import ClassReport
from dbp.train.model.export import exported
from dbp.train.model.trained_model import TrainedModel
from dbp.train.report.run_contents import parameters_of

Array = npt.NDArray[Any]


@final
class FittedModel:
    """A trained model; threads must not share one, since its buffers are reused.

    Attributes:
        history: Figures of each epoch that ``dbp.fit`` has trained: ``step``, ``epoch``,
            ``training_loss``, ``validation_loss``, ...; empty for a loaded model.
        outcome: How the run ended; None for a loaded model.
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        history: Sequence[Mapping[str, float]] = (),
        outcome: RunOutcome | None = None,
    ) -> None:
        self._trained = trained
        self.history = tuple(history)
        self.outcome = outcome

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a parameter file, or that of a run folder; raises InvalidFile."""
        file = Path(path)
        return cls(TrainedModel.load(parameters_of(file) if file.is_dir() else file))

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle the parameter file, not the model's buffers."""
        content = exported(self._trained, "safetensors")
        return _restored, (bytes(content), self.history, self.outcome)

    @property
    def parameters(self) -> dict[str, Array]:
        """Copies of the weights and biases by name, such as ``0.weight`` and ``0.bias``."""
        return {name: view.copy() for name, view in self._trained.parameters.views.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the parameter file: model, scaling, step, ..."""
        return dict(self._trained.metadata)

    @property
    def class_count(self) -> int | None:
        """Number of classes; None for a model of values."""
        model = self._trained.model
        is_class = model.loss.target_kind() == "class"
        return model.loss.class_count(model.output_shape) if is_class else None

    def predict(self, inputs: npt.ArrayLike) -> Array:
        """Return the class of each row, by name if it has one; for regression the values.

        Args:
            inputs: Shape (n, *input_shape), not scaled: the model scales them.

        The result is that of ``dbp predict``. Raises InvalidData for inputs that do not fit,
        or are not finite.
        """
        return model_answers(self._trained, numbers("inputs", inputs))

    def probabilities(self, inputs: npt.ArrayLike) -> Array:
        """Return the probabilities of all classes, (n, classes).

        Raises InvalidInput for a model of values and for one of scores, such as those of the
        loss ``hinge``; InvalidData as ``predict``.
        """
        return model_answers(self._trained, numbers("inputs", inputs), proba=True)

    def evaluate(
        self,
        inputs: npt.ArrayLike,
        targets: npt.ArrayLike,
        *,
        weights: npt.ArrayLike | None = None,
    ) -> dict[str, float]:
        """Return the mean loss and the metrics over these samples, as ``dbp evaluate`` does.

        Classes are numbers, or their names where the training data had names. Raises
        InvalidData for samples that do not fit the model.
        """
        return self._trained.evaluate(self._samples(inputs, targets, weights))

    def class_report(self, inputs: npt.ArrayLike, targets: npt.ArrayLike) -> ClassReport:
        """Return precision, recall, F1 and the confusion matrix of the classes.

        Every sample counts once. ``print`` shows it as a table; targets and errors are those of
        ``evaluate``. Raises InvalidInput for a model of values.
        """
        report = self._trained.evaluation(self._samples(inputs, targets)).class_report
        if report is None:
            raise InvalidInput("class_report: the model gives values, no classes")
        return report

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.safetensors`` file atomically, for ``dbp.load``, ``dbp predict``, PyTorch.

        Raises InvalidInput if it cannot be written.
        """
        file = Path(path)
        if file.suffix != ".safetensors":
            raise InvalidArgument(
                f"path: must end with .safetensors, got {os.fspath(path)!r}; write "
                f"{str(file.with_suffix('.safetensors'))!r}"
            )
        try:
            write_file(file, [exported(self._trained, "safetensors")])
        except OSError as error:
            raise InvalidInput(f"{file}: cannot be written: {error.strerror}") from error

    def _samples(
        self,
        inputs: npt.ArrayLike,
        targets: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> Dataset:
        given, names = self._numbered(targets)
        reader = ArrayReader.of(inputs, given, weights)
        kind = self._trained.model.loss.target_kind()
        return replace(reader.of_kind(kind), class_names=names).open()

    def _numbered(self, targets: npt.ArrayLike) -> tuple[npt.ArrayLike, tuple[str, ...]]:
        """Return numbers instead of names of classes, and all names; other targets as given."""
        labels, given = self._trained.labels, np.asarray(targets)
        if given.dtype.kind != "U" or not labels:
            return targets, ()
        known = {label: number for number, label in enumerate(labels)}
        written = given.reshape(-1).tolist()
        for row, label in enumerate(written):
            if label not in known:
                raise InvalidData(
                    f"targets: sample {row}: no class {label!r} in the model"
                    f"{alternatives(label, labels[:20], 'it has')}"
                )
        return np.array([known[label] for label in written]), self._trained.class_names


def _restored(
    content: bytes, history: Sequence[Mapping[str, float]], outcome: RunOutcome | None
) -> FittedModel:
    """Return a copied or unpickled model."""
    trained = TrainedModel.from_bytes(content, "the copied model")
    return FittedModel(trained, history=history, outcome=outcome)
