"""Series of the metrics history to protos and back."""

from __future__ import annotations

import math

import pytest

from dbp.job.metric_series import PointColumns, SeriesKind, SeriesName
from dbp.rpc.metric_convert import series_from_proto, series_to_proto

POINTS = PointColumns(
    step=(4, 9), first_step=(1, 5), epoch=(1, 2), time=(1_700_000_000.25, 1_700_000_001.5),
    counted=(4, 0), mean=(0.5, 7.0), minimum=(0.25, 8.0), maximum=(0.75, 9.0),
    last=(0.5, math.inf), retaken=(False, True),
)  # fmt: skip


@pytest.mark.parametrize("kind", list(SeriesKind))
@pytest.mark.parametrize("points", [POINTS, PointColumns()])
def test_a_series_comes_back_as_it_was(kind: SeriesKind, points: PointColumns) -> None:
    series = SeriesName("digits-x", "validation_loss", kind)

    proto = series_to_proto(series, points)

    assert proto.job == "jobs/digits-x"
    assert series_from_proto(type(proto).FromString(proto.SerializeToString())) == (
        series, points
    )  # fmt: skip


def test_a_name_is_printable_on_both_sides() -> None:
    proto = series_to_proto(SeriesName("a", "lo\x1b[2Jss", SeriesKind.STEPS), PointColumns())
    assert proto.name == "loss"

    proto.name = "lo\x1b[2Jss"
    assert series_from_proto(proto)[0].name == "loss"
