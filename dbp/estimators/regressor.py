"""A regressor for scikit-learn."""

from __future__ import annotations

import math
from typing import Any, Self, final

import numpy.typing as npt

from dbp.errors import InvalidArgument
from dbp.estimators.estimator import Estimator
from dbp.estimators.scikit_learn import MultiOutputMixin, RegressorMixin

Array = npt.NDArray[Any]


@final
class DBPRegressor(MultiOutputMixin, RegressorMixin, Estimator):  # type: ignore[misc]
    """A neural network for one or more values per row, trained by ``dbp.fit``.

    The loss is the mean squared error.

    Attributes:
        model_: The FittedModel that ``dbp.fit`` has returned.
        loss_curve_: Training loss of each epoch.
        n_iter_: Number of epochs.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if X had names.
    """

    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Train on X, (n, features), and the values y, (n,) or (n, outputs)."""
        inputs, values = self._checked(X, y=y, multi_output=True, y_numeric=True)
        self._shape: tuple[int, ...] = values.shape[1:]
        return self._train(
            inputs,
            values,
            sample_weight,
            units=math.prod(self._shape),
            loss="mean_squared_error",
        )

    def _check_model(self, X: Array) -> None:
        if self.model_.predict(X[:1]).dtype.kind != "f":
            raise InvalidArgument(
                "spec: model.loss gives classes; DBPRegressor needs one of values, such as "
                "'mean_squared_error'"
            )

    def predict(self, X: npt.ArrayLike) -> Array:
        """Return the values, in the shape of ``y`` in ``fit``: (n,) or (n, outputs)."""
        values = self._model().predict(self._checked(X, reset=False))
        return values.reshape(len(values), *self._shape)
