"""Counts and times of inference, by version."""

from __future__ import annotations

from dbp.service.inference.answers import Times
from dbp.service.inference.statistics import MAX_KEPT, InferenceStatistics


def test_statistics_sum_times_and_the_rest_is_queue_time() -> None:
    statistics = InferenceStatistics()
    statistics.succeeded("a", 1, 10, Times(1, 20, 3), 100)
    statistics.succeeded("a", 1, 5, Times(2, 10, 1), 40)
    statistics.failed("a", 1, 7)

    (figures,) = statistics.figures("a")

    assert (figures.inference_count, figures.execution_count) == (15, 2)
    times = figures.inference_stats
    assert [
        (part.count, part.ns)
        for part in (
            times.success, times.fail, times.queue, times.compute_input, times.compute_infer,
            times.compute_output,
        )
    ] == [(2, 140), (1, 7), (2, 103), (2, 3), (2, 30), (2, 4)]  # fmt: skip


def test_figures_are_chosen_by_job_and_version_and_may_bear_another_name() -> None:
    statistics = InferenceStatistics()
    for job, version in (("b", 2), ("a", 10), ("a", 9)):
        statistics.failed(job, version, 1)

    everything = [(f.name, f.version) for f in statistics.figures()]

    assert everything == [("a", "9"), ("a", "10"), ("b", "2")]
    assert [(f.name, f.version) for f in statistics.figures("a", 9, name="a@best")] == [
        ("a@best", "9")
    ]
    assert list(statistics.figures("c")) == []


def test_versions_without_a_request_for_long_are_forgotten() -> None:
    statistics = InferenceStatistics()
    for version in range(1, MAX_KEPT + 1):
        statistics.failed("a", version, 1)
    statistics.failed("a", 1, 1)
    statistics.failed("a", MAX_KEPT + 1, 1)

    versions = {int(figures.version) for figures in statistics.figures()}

    assert len(versions) == MAX_KEPT
    assert 1 in versions
    assert 2 not in versions
