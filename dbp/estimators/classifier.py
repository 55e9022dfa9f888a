"""A classifier for scikit-learn."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from dbp.errors import InvalidArgument
from dbp.estimators.estimator import Estimator
from dbp.estimators.scikit_learn import ClassifierMixin, check_classification_targets

Array = npt.NDArray[Any]


@final
class DBPClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A neural network for two or more classes, trained by ``dbp.fit``.

    The outputs are a softmax over the classes, the loss is the cross-entropy.

    Attributes:
        classes_: The classes, sorted.
        model_: The FittedModel that ``dbp.fit`` has returned.
        loss_curve_: Training loss of each epoch.
        n_iter_: Number of epochs.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if X had names.
    """

    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Self:
        """Train on X, (n, features), and the classes y, (n,): numbers or strings."""
        inputs, classes = self._checked(X, y=y)
        check_classification_targets(classes)
        self.classes_, numbers = np.unique(classes, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidArgument(
                f"y: has one class, {self.classes_.tolist()[0]!r}; training needs at least 2"
            )
        return self._train(
            inputs, numbers, sample_weight,
            units=len(self.classes_), loss="softmax_cross_entropy",
        )  # fmt: skip

    def _check_model(self, X: Array) -> None:
        found, count = self.model_.class_count, len(self.classes_)
        if found is None:
            raise InvalidArgument(
                "spec: model.loss gives values; DBPClassifier needs one of classes, such as "
                "'softmax_cross_entropy'"
            )
        if found != count:
            raise InvalidArgument(
                f"spec: model.layers gives {found} classes, y has {count}; set the units of "
                "the last layer"
            )

    def predict(self, X: npt.ArrayLike) -> Array:
        """Return the class of each row, as in ``classes_``."""
        model = self._model()
        found: Array = self.classes_[model.predict(self._checked(X, reset=False))]
        return found

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Return the probability of each class, (n, classes), in the order of ``classes_``.

        Raises InvalidInput for a ``spec`` whose loss gives scores, such as ``hinge``.
        """
        outputs = self._model().probabilities(self._checked(X, reset=False))
        if outputs.shape[1] == 1:  # of a spec: the probability of the second class alone
            return np.hstack([1 - outputs, outputs])
        return outputs
