"""Contract checks for plug-ins and our own: AssertionError says what the contract asks for.

All draws are fixed, so a check passes always or never.
"""

from dbp.parallel.threads import run_threads as run_ranks
from dbp.testing.layer_contract import check_layer
from dbp.testing.loss_contract import check_loss
from dbp.testing.metric_contract import check_metric
from dbp.testing.optimizer_contract import check_optimizer

__all__ = ["check_layer", "check_loss", "check_metric", "check_optimizer", "run_ranks"]
