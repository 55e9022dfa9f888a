"""The answers of a trained model, as users want them: classes, probabilities or values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidInput
from dbp.option_names import either
from dbp.train.model.trained_model import TrainedModel

Array = npt.NDArray[Any]


def model_answers(model: TrainedModel, rows: Array, *, proba: bool = False) -> Array:
    """Return classes (by name if they have names), or values for regression.

    ``proba``: the probabilities of all classes instead. ``rows``: (n, *input_shape), unscaled.
    Raises InvalidInput if the model has no probabilities, InvalidData for inputs that do not
    fit, and for inputs and outputs that are not finite.
    """
    loss = model.model.loss
    is_class = loss.target_kind() == "class"
    if proba and not is_class:
        raise InvalidInput(no_classes())
    if proba and not loss.gives_probabilities:
        raise InvalidInput(no_probabilities())
    scores = model.predict(rows)
    outputs = model.activate(scores)
    if proba or not is_class:
        return outputs
    classes = loss.classes(scores)
    named: Array = np.array(model.labels)[classes] if model.class_names else classes
    return named


def no_classes() -> str:
    """Return the message on probabilities of a model of values."""
    return f"{either('--proba', 'probabilities')}: the model gives values, no classes"


def no_probabilities() -> str:
    """Return the message on probabilities of a model that gives scores of classes."""
    option = either("--proba", "probabilities")
    return (
        f"{option}: the model gives scores, no probabilities, since its loss learns none; "
        "train it with softmax_cross_entropy for these"
    )
