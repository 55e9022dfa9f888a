"""Every metric against scikit-learn's, with weights, ties, and classes that do not occur."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as sk

from dbp.nn.metric import Metric, ScoreMetric
from dbp.registry import component_class, kinds

Array = npt.NDArray[Any]
Peer = Callable[[Array, Array, Array], float]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def classes(logits: Array) -> Array:
    return np.asarray(logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1))


def of_classes(peer: Callable[..., float], **options: Any) -> Peer:
    return lambda y, t, w: float(peer(t, classes(y), sample_weight=w, **options))


def top_k(k: int) -> Peer:
    return lambda y, t, w: float(
        sk.top_k_accuracy_score(t, y, k=k, sample_weight=w, labels=range(y.shape[1]))
    )


def of_values(peer: Callable[..., float]) -> Peer:
    return lambda y, t, w: float(peer(t, y, sample_weight=w))


def auc(y: Array, t: Array, w: Array) -> float:
    if y.shape[1] < 3:
        score = y[:, -1] - (y[:, 0] if y.shape[1] == 2 else 0)
        return float(sk.roc_auc_score(t, score, sample_weight=w))
    columns = softmax(y).T
    each = [
        sk.roc_auc_score(t == k, column, sample_weight=w) for k, column in enumerate(columns)
    ]
    return float(np.mean(each))


def labels_right(y: Array, t: Array, w: Array) -> float:
    each = [sk.accuracy_score(t[:, i] > 0.5, y[:, i] > 0, sample_weight=w) for i in range(3)]
    return float(np.mean(each))


# Kind, its options, scikit-learn's figure, and the outputs it is compared for.
CASES: list[tuple[str, dict[str, Any], Peer, tuple[int, ...]]] = [
    ("accuracy", {}, of_classes(sk.accuracy_score), (1, 2, 4)),
    ("balanced_accuracy", {}, of_classes(sk.balanced_accuracy_score), (1, 2, 4)),
    ("top_k_accuracy", {"k": 2}, top_k(2), (4, 7)),
    ("top_k_accuracy", {}, top_k(5), (7,)),
    ("roc_auc", {}, auc, (1, 2, 4)),
    ("r2", {}, of_values(sk.r2_score), (1, 3)),
    ("mean_absolute_error", {}, of_values(sk.mean_absolute_error), (1, 3)),
    ("root_mean_squared_error", {}, of_values(sk.root_mean_squared_error), (1, 3)),
    ("binary_accuracy", {}, labels_right, (3,)),
]
for kind, peer in (("precision", sk.precision_score), ("recall", sk.recall_score),
                   ("f1", sk.f1_score)):  # fmt: skip
    for average in ("macro", "micro"):
        options = {"average": average}
        CASES.append(
            (kind, options, of_classes(peer, zero_division=0, **options), (1, 2, 4, 7))
        )
    CASES.append((kind, {"average": "binary"}, of_classes(peer, average="binary"), (1, 2)))


def figure(metric: Metric, prediction: Array, target: Array, weight: Array | None) -> float:
    """Return the figure summed over three parts of the samples."""
    parts = np.split(np.arange(len(prediction)), [20, 21])
    if isinstance(metric, ScoreMetric):
        scores = np.empty((len(prediction), metric.columns(prediction.shape[1:])))
        for rows in parts:
            own = np.empty((len(rows), scores.shape[1]))
            metric.write_scores(prediction[rows], own)
            scores[rows] = own
        ones = np.ones(len(prediction))
        return metric.figure(scores, target.astype(float), ones if weight is None else weight)
    sums = np.zeros(metric.size(prediction.shape[1:]))
    for rows in parts:
        own_weight = None if weight is None else weight[rows]
        metric.accumulate(prediction[rows], target[rows], own_weight, sums)
    return metric.value(sums)


def samples(kind: str, outputs: int, seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    prediction = rng.normal(size=(60, outputs)).round(1)  # ties
    weight = rng.integers(0, 4, 60).astype(float)
    weight[:8] = 1
    if component_class("metrics", kind)().target_kind() == "values":
        target = prediction * 0.7 + rng.normal(size=prediction.shape) + 3
        return (
            prediction,
            (target > 3).astype(float) if kind == "binary_accuracy" else target,
            weight,
        )
    count = max(2, outputs)
    true = rng.integers(0, count - (kind != "roc_auc" and count > 4), 60)
    true[:count] = np.arange(count) % (true.max() + 1)
    return prediction, true, weight


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("kind", "options", "peer", "outputs"),
    [(kind, opts, peer, count) for kind, opts, peer, counts in CASES for count in counts],
    ids=[
        "-".join([kind, *map(str, opts.values()), str(count)])
        for kind, opts, _, counts in CASES
        for count in counts
    ],
)
def test_the_figure_is_that_of_scikit_learn(
    kind: str, options: dict[str, Any], peer: Peer, outputs: int, seed: int
) -> None:
    metric = component_class("metrics", kind)(**options)
    prediction, target, weight = samples(kind, outputs, seed)

    for own in (None, weight):
        expected = peer(prediction, target, np.ones(60) if own is None else own)
        found = figure(metric, prediction, target, own)
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    metric = component_class("metrics", "confusion_matrix")()
    prediction, target, weight = samples("accuracy", 7, 0)
    sums = np.zeros(metric.size((7,)))
    metric.accumulate(prediction, target, weight, sums)

    expected = sk.confusion_matrix(
        target, classes(prediction), labels=range(7), sample_weight=weight
    )
    found = metric.values(sums)
    assert len(found) == 49
    for i in range(7):
        for j in range(7):
            assert found[f"[{i},{j}]"] == expected[i, j]


def test_every_metric_is_compared_with_scikit_learn() -> None:
    assert {kind for kind, *_ in CASES} | {"confusion_matrix"} == set(kinds("metrics"))


@pytest.mark.parametrize("mean", [0.0, 10.0, 1e4])
def test_r2_of_targets_far_from_zero(mean: float) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(60, 2)) + mean
    prediction = target + 0.3 * rng.normal(size=(60, 2))

    found = figure_of(component_class("metrics", "r2")(), prediction, target)

    assert found == pytest.approx(sk.r2_score(target, prediction), rel=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1e-7])
def test_r2_is_nan_where_rounding_hides_the_variance(spread: float) -> None:
    target = 1 + spread * np.random.default_rng(0).normal(size=(60, 1))

    assert np.isnan(figure_of(component_class("metrics", "r2")(), target, target))


def test_accuracy_of_one_output_and_of_labels_by_hand() -> None:
    # Above 0 is class 1: right, wrong, right (0 is not above 0).
    one = component_class("metrics", "accuracy")()
    assert figure_of(one, np.array([[2.0], [-1.0], [0.0]]), np.array([1, 1, 0])) == 2 / 3
    # Two of two labels, then one of two.
    labels = component_class("metrics", "binary_accuracy")()
    logits, target = np.array([[3.0, -1.0], [3.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert figure_of(labels, logits, target) == 0.75


def figure_of(metric: Metric, prediction: Array, target: Array) -> float:
    sums = np.zeros(metric.size(prediction.shape[1:]))
    metric.accumulate(prediction, target, None, sums)
    return metric.value(sums)
