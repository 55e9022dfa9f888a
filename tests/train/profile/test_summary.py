"""Attribution: waits go to the last rank of each call, and the parts of a step sum to it."""

from __future__ import annotations

import json

import pytest

from dbp.train.profile.chrome import origin_of, trace
from dbp.train.profile.rank_spans import RankSpans
from dbp.train.profile.recorder import Span
from dbp.train.profile.summary import summarize
from dbp.train.profile.waits import waits_of


def rank_spans(rank: int, compute: float, *, checkpoint: float = 0.0) -> RankSpans:
    """Return three steps of one second; a rank computes, then waits in a barrier to 0.9 s."""
    spans: list[Span] = []
    for step in (1, 2, 3):
        start = float(step)
        busy = start + compute
        spans += [
            ("0 Dense forward", "layer", start + 0.1, start + 0.2),
            ("0 Dense backward", "layer", start + 0.2, start + 0.25),
            ("input", "phase", start, start + 0.1),
            ("compute", "phase", start + 0.1, busy),
            ("barrier", "call", busy + checkpoint, start + 0.9),
        ]
        if checkpoint:
            spans.append(("checkpoint", "phase", busy, busy + checkpoint))
        spans.append(("exchange", "phase", busy + checkpoint, start + 0.95))
        spans.append(("update", "phase", start + 0.95, start + 1))
        spans.append((f"step {step}", "step", start, start + 1))
    return RankSpans(rank, 1, 3, spans)


def test_a_rank_waits_for_the_last_one_of_each_call() -> None:
    waits = waits_of([rank_spans(0, 0.4), rank_spans(1, 0.7), rank_spans(2, 0.5)])

    assert len(waits) == 6
    assert [(wait.rank, wait.late, wait.doing) for wait in waits[:2]] == [
        (0, 1, "compute"), (2, 1, "compute"),
    ]  # fmt: skip
    assert [(wait.start, wait.end) for wait in waits[:2]] == [
        pytest.approx((1.4, 1.7)), pytest.approx((1.5, 1.7)),
    ]  # fmt: skip


def test_a_wait_names_what_the_late_rank_does() -> None:
    waits = waits_of([rank_spans(0, 0.4), rank_spans(1, 0.4, checkpoint=0.3)])

    assert {(wait.late, wait.doing) for wait in waits} == {(1, "checkpoint")}


def test_parts_of_a_step_sum_to_it_and_the_first_step_does_not_count() -> None:
    ranks = [rank_spans(0, 0.4), rank_spans(1, 0.7)]
    summary = summarize(ranks, waits_of(ranks))

    assert (summary.first, summary.last) == (2, 3)
    for rank in summary.ranks:
        assert rank.step == pytest.approx(1000)
        assert sum(rank.activities.values()) == pytest.approx(1000)
        assert min(rank.activities.values()) >= -1e-9
    fast, slow = summary.ranks
    assert fast.activities["waiting for rank 1"] == pytest.approx(300)
    assert fast.waits == {"waiting for rank 1 (compute)": pytest.approx(300)}
    assert fast.activities["collective calls, without waiting"] == pytest.approx(200)
    assert fast.activities["exchange: copies and sums"] == pytest.approx(50)
    assert fast.activities["forward"] == pytest.approx(100)
    assert fast.layers["0 Dense backward"] == pytest.approx(50)
    assert fast.activities["loss, metrics, sums of lanes"] == pytest.approx(150)
    assert "waiting for rank 0" not in slow.activities


def test_the_text_attributes_the_lost_time_once() -> None:
    ranks = [rank_spans(0, 0.4), rank_spans(1, 0.7)]
    text = summarize(ranks, waits_of(ranks)).text()

    assert text.startswith("profile of 2 steps, 2 to 3: 1000.000 ms a step\n")
    last = text.splitlines()[-1]
    assert last.startswith("not forward or backward: 85.0% of the time: ")
    assert "waiting for rank 1 (compute) 15.0%" in last


def test_ranks_that_stopped_recording_at_other_steps_are_compared_where_both_did() -> None:
    short, long = rank_spans(0, 0.4), rank_spans(1, 0.7)
    cut = RankSpans(0, 1, 2, [span for span in short.spans if span[2] < 3])

    summary = summarize([cut, long], waits_of([cut, long]))

    assert (summary.first, summary.last) == (2, 2)
    assert [rank.step for rank in summary.ranks] == pytest.approx([1000, 1000])


def test_a_run_without_steps_has_an_empty_summary() -> None:
    nothing = RankSpans(0, 0, 0, [])

    assert summarize([nothing], []).text() == "profile: no step was recorded"
    assert trace([nothing], [], origin_of([nothing]))["displayTimeUnit"] == "ms"


def test_events_of_a_trace_are_nested_and_count_from_its_start() -> None:
    ranks = [rank_spans(0, 0.4), rank_spans(1, 0.7)]
    waits = waits_of(ranks)

    content = json.loads(json.dumps(trace(ranks, waits, origin_of(ranks))))

    events = [event for event in content["traceEvents"] if event["ph"] == "X"]
    assert min(event["ts"] for event in events) == 0
    assert {event["pid"] for event in events} == {0, 1}
    assert sum(event["name"] == "wait for rank 1 (compute)" for event in events) == 3
    step = next(event for event in events if event["name"] == "step 2")
    assert (step["ts"], step["dur"]) == (1e6, 1e6)
