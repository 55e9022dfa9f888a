"""Outcomes of runs as JSON, from a store or from a run's ``result.json``."""

from __future__ import annotations

import json
import math

from dbp.job.job_json import decode_outcome, encode_outcome


def test_figure_that_is_not_a_number_is_read_from_a_verdict_and_kept() -> None:
    """``result.json`` has null for it."""
    fields = {
        "status": "succeeded", "reason": "epochs", "step": 9, "skipped": 3,
        "metrics": {"training_loss": 0.5, "validation_roc_auc": None},
    }  # fmt: skip

    outcome = decode_outcome(fields)
    again = decode_outcome(json.loads(encode_outcome(outcome)))

    for found in (outcome, again):
        assert found.metrics["training_loss"] == 0.5
        assert math.isnan(found.metrics["validation_roc_auc"])
