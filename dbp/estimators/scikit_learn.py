"""The parts of scikit-learn that the estimators use; the only module that imports it."""

from __future__ import annotations

from dbp.errors import MissingDependency

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise MissingDependency(
        f"DBPClassifier and DBPRegressor need scikit-learn 1.6 or newer ({error}): "
        "pip install 'dbp[sklearn]'"
    ) from error

check_sample_weight = _check_sample_weight

__all__ = [
    "BaseEstimator",
    "ClassifierMixin",
    "ConvergenceWarning",
    "MultiOutputMixin",
    "RegressorMixin",
    "check_classification_targets",
    "check_is_fitted",
    "check_random_state",
    "check_sample_weight",
    "validate_data",
]
