"""Figures of an epoch with mini-batches left out, also through a checkpoint."""

from __future__ import annotations

import json

import numpy as np

from dbp.train.report.figures import Figures
from tests.train.setups import document, make_setup, samples


def new_figures() -> Figures:
    setup = make_setup(document(), samples(9))
    return Figures(setup.model, setup.metric_kinds)


def test_epoch_is_idle_while_all_of_its_mini_batches_were_left_out() -> None:
    figures = new_figures()
    idle = [figures.idle]

    figures.skip_batch()
    idle.append(figures.idle)
    figures.add_batch(2.0, 4.0, np.ones(2))
    idle.append(figures.idle)
    assert figures.newest()["training_loss"] == 0.5

    figures.start_epoch()
    figures.skip_batch()
    idle.append(figures.idle)
    assert figures.newest() == {}
    assert idle == [False, True, False, True]


def test_counts_of_the_epoch_survive_a_checkpoint() -> None:
    before, after = new_figures(), new_figures()
    before.add_batch(2.0, 4.0, np.ones(2))
    before.skip_batch()

    after.restore(json.loads(json.dumps(before.state())))

    assert (after.skipped, after.idle) == (1, False)
    assert after.newest() == before.newest()
