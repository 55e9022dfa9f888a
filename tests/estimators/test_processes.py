"""The estimators in the processes of joblib, as in a search with n_jobs=2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadline import DEADLINE

# joblib keeps its processes for the next call, so they belong to a program of their own.
PROGRAM = """
import sys

import numpy as np
from sklearn.model_selection import GridSearchCV

import dbp
from dbp.errors import InvalidSpec


def accuracy(model, x, y):  # called in the processes
    assert "mpi4py" not in sys.modules
    return model.score(x, y)


if __name__ == "__main__":
    x = np.random.default_rng(0).normal(size=(120, 4))
    y = np.where(x[:, 0] > 0, "yes", "no")
    model = dbp.DBPClassifier(8, epochs=5, batch_size=16, random_state=1)
    grid = {"learning_rate": [1e-6, 0.02]}
    found = []
    for jobs in (1, 2):
        search = GridSearchCV(model, grid, cv=2, n_jobs=jobs, scoring=accuracy).fit(x, y)
        found.append(search.cv_results_["mean_test_score"].tolist())
    print(search.best_params_, found[0] == found[1], max(found[0]) > 0.8)

    broken = {"name": "x", "model": {"layers": [{"kind": "dense", "units": 2}]}}
    search = GridSearchCV(
        dbp.DBPClassifier(), {"spec": [broken]}, cv=2, n_jobs=2, error_score="raise"
    )
    try:
        search.fit(x, y)
    except InvalidSpec as error:
        print(sorted(violation.path for violation in error.violations))
"""


@pytest.mark.processes
def test_a_search_in_two_processes_finds_the_same_as_in_one(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(PROGRAM)

    done = subprocess.run(
        [sys.executable, "search.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "{'learning_rate': 0.02} True True",
        "['model.loss', 'optimizer']",
    ]
