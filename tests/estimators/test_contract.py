"""scikit-learn's own checks of the contract of an estimator."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import dbp


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the checks; scikit-learn would keep them to the end of the process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [dbp.DBPClassifier(), dbp.DBPRegressor()]
)
def test_the_checks_of_scikit_learn_pass(
    estimator: object, check: Callable[[object], None]
) -> None:
    check(estimator)
