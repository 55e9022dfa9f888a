"""Convert series of the metrics history to protos and back.

Names are stripped of control characters here, as those of a job's metrics are.
"""

from __future__ import annotations

from dbp.job.metric_series import PointColumns, SeriesName
from dbp.printable import printable_line
from dbp.rpc.enums import metric_kind_from_proto, metric_kind_to_proto
from dbp.rpc.scalar_convert import id_from_name, job_name
from dbp.v1 import metric_pb2


def series_to_proto(series: SeriesName, points: PointColumns) -> metric_pb2.MetricSeries:
    """Convert the points of a series to their proto."""
    return metric_pb2.MetricSeries(
        job=job_name(series.job_id),
        name=printable_line(series.name),
        kind=metric_kind_to_proto(series.kind),
        steps=points.step,
        first_steps=points.first_step,
        epochs=points.epoch,
        times=points.time,
        counts=points.counted,
        means=points.mean,
        minimums=points.minimum,
        maximums=points.maximum,
        lasts=points.last,
        retaken=points.retaken,
    )


def series_from_proto(proto: metric_pb2.MetricSeries) -> tuple[SeriesName, PointColumns]:
    """Convert a proto to a series and its points."""
    series = SeriesName(
        id_from_name(proto.job), printable_line(proto.name), metric_kind_from_proto(proto.kind)
    )
    points = PointColumns(
        step=tuple(proto.steps),
        first_step=tuple(proto.first_steps),
        epoch=tuple(proto.epochs),
        time=tuple(proto.times),
        counted=tuple(proto.counts),
        mean=tuple(proto.means),
        minimum=tuple(proto.minimums),
        maximum=tuple(proto.maximums),
        last=tuple(proto.lasts),
        retaken=tuple(proto.retaken),
    )
    return series, points
