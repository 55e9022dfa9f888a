"""Check that a component keeps the contract of its base class, for plug-ins and built-ins.

A failed check raises AssertionError with the broken rule. Random numbers are fixed, so a check
always gives the same result.
"""

from dbp.parallel.threads import run_threads as run_ranks
from dbp.testing.layer_contract import check_layer
from dbp.testing.loss_contract import check_loss
from dbp.testing.metric_contract import check_metric
from dbp.testing.optimizer_contract import check_optimizer
from dbp.testing.sink_contract import check_sink

__all__ = [
    "check_layer",
    "check_loss",
    "check_metric",
    "check_optimizer",
    "check_sink",
    "run_ranks",
]
