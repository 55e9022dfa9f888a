"""Scaling: fitted on the data alone, applied the same everywhere, stored without loss."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.data import rows
from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.data.digits import Digits
from dbp.data.preprocessing import Scaling, ScalingKind, Share, fit
from dbp.errors import InvalidData, InvalidFile
from tests.closeness import assert_close
from tests.deadline import DEADLINE


def dataset(inputs: np.ndarray) -> Dataset:
    return arrays(inputs, np.zeros(len(inputs), int))


def random_inputs(samples: int = 1000) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.normal(size=(samples, 3, 2)) * [1.0, 100.0] + [5.0, -1e6]


def test_none_returns_the_inputs_unchanged() -> None:
    x = random_inputs()
    y = x.copy()

    fit("none", dataset(x)).apply(y)

    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("inputs", "divisor"),
    [
        (np.array([[3, 7]], np.uint8), 255.0),
        (np.array([[3, -70]], np.int16), 70.0),
        (np.array([[0.5, -4.0]]), 4.0),
        (np.array([[0.0, 0.0]]), 1.0),
        (np.array([[True, False]]), 1.0),
        (np.array([[-(2**63), 5]]), 2.0**63),
    ],
)
def test_unit_divides_by_the_largest_value_there_can_be(
    inputs: np.ndarray, divisor: float
) -> None:
    scaling = fit("unit", dataset(inputs))
    out = np.empty(inputs.shape, np.float64)
    scaling.convert(inputs, out)

    assert scaling.scale == divisor
    np.testing.assert_array_equal(out, inputs / divisor)


def test_unit_takes_digits_to_one() -> None:
    assert fit("unit", Digits().open()).scale == 16.0


def test_standard_gives_zero_mean_and_unit_variance() -> None:
    x = random_inputs()

    scaling = fit("standard", dataset(x))
    scaling.apply(x)

    assert_close(x.mean(axis=0), np.zeros(x.shape[1:]), 1e-9, scale=1.0)
    np.testing.assert_allclose(x.std(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("samples", [1, 2, 255, 256, 257, 1000])
def test_standard_agrees_with_numpy(samples: int) -> None:
    x = random_inputs(samples)

    scaling = fit("standard", dataset(x))

    assert scaling.mean is not None
    np.testing.assert_allclose(scaling.mean, x.mean(axis=0), rtol=1e-12)
    deviation = x.std(axis=0)
    np.testing.assert_allclose(scaling.scale, np.where(deviation == 0, 1, deviation), rtol=1e-9)


def test_standard_is_not_fooled_by_a_large_common_part() -> None:
    x = np.array([[1e9 + 4], [1e9 + 7], [1e9 + 13], [1e9 + 16]])

    scaling = fit("standard", dataset(x))

    assert scaling.mean is not None
    assert scaling.mean[0] == 1e9 + 10
    assert scaling.scale[0] == pytest.approx(np.sqrt(22.5), rel=1e-12)


def test_a_constant_feature_becomes_zero_and_keeps_scale_one() -> None:
    x = np.tile([0.1, 1 / 3, 1e300], (777, 1))

    scaling = fit("standard", dataset(x))
    scaling.apply(x)

    np.testing.assert_array_equal(scaling.scale, 1.0)
    np.testing.assert_array_equal(x, 0.0)


def test_the_fit_is_the_same_bits_from_memory_and_from_disk(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    from dbp.data.npy import NPY

    folder = Path(str(tmp_path))
    np.save(folder / "x.npy", random_inputs())
    np.save(folder / "y.npy", np.zeros(1000, int))
    reader = NPY(inputs=str(folder / "x.npy"), targets=str(folder / "y.npy"))

    in_memory = fit("standard", reader.open()).to_json()
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rows, "_BLOCK_BYTES", 100)

    assert fit("standard", reader.open()).to_json() == in_memory


def test_a_variance_beyond_float64_is_refused() -> None:
    with pytest.raises(InvalidData, match=r"data\.scale: .*too large"):
        fit("standard", dataset(np.array([[1e200], [-1e200]])))


def test_wide_inputs_are_scaled_before_they_are_rounded() -> None:
    x = np.array([[1_600_000_001], [1_600_000_003]])
    out = np.empty((2, 1), np.float32)

    fit("standard", dataset(x)).convert(x, out)

    np.testing.assert_array_equal(out, [[-1], [1]])


@pytest.mark.parametrize("kind", ["none", "unit", "standard", "min_max"])
@pytest.mark.parametrize("dtype", ["u1", "<f4", "<f8"])
def test_a_row_is_scaled_to_the_same_bits_in_any_batch(kind: str, dtype: str) -> None:
    x = (np.abs(random_inputs(100)) % 200).astype(dtype)
    scaling = fit(kind, dataset(x))  # type: ignore[arg-type]
    whole = np.empty(x.shape, np.float32)
    scaling.convert(x, whole)

    for row in (0, 17, 99):
        alone = np.empty((1, 3, 2), np.float32)
        scaling.convert(x[row : row + 1], alone)
        np.testing.assert_array_equal(alone[0], whole[row])


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_standard_survives_its_text_bit_for_bit(pairs: list[tuple[float, float]]) -> None:
    scaling = Scaling("standard", mean=[m for m, _ in pairs], scale=[s for _, s in pairs])

    again = Scaling.from_json(scaling.to_json())

    assert again.kind == "standard"
    assert again.mean is not None
    assert scaling.mean is not None
    assert again.mean.tobytes() == scaling.mean.tobytes()
    assert again.scale.tobytes() == scaling.scale.tobytes()


@pytest.mark.parametrize("scaling", [Scaling(), Scaling("unit", scale=1 / 3)])
def test_the_other_kinds_survive_their_text(scaling: Scaling) -> None:
    again = Scaling.from_json(scaling.to_json())

    assert (again.kind, again.mean, again.scale) == (scaling.kind, None, scaling.scale)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"kind":"other"}',
        '{"kind":["unit"]}',
        '{"kind":"unit","scale":"x"}',
        '{"kind":"unit","scale":0}',
        '{"kind":"unit","scale":-1}',
        '{"kind":"unit","scale":NaN}',
        '{"kind":"unit","scale":[1,2]}',
        '{"kind":"none","scale":2}',
        '{"kind":"standard","scale":[1,2]}',
        '{"kind":"standard","scale":[1,2],"mean":[1]}',
        '{"kind":"standard","scale":[[1],[2,3]],"mean":[1]}',
        '{"kind":"standard","scale":[1],"mean":[Infinity]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidFile, match=r"^dbp\.scaling: "):
        Scaling.from_json(text)


def test_the_text_is_plain_json() -> None:
    assert json.loads(Scaling("unit", scale=255).to_json()) == {"kind": "unit", "scale": 255.0}


def test_min_max_takes_each_feature_to_0_and_1_and_a_constant_one_to_0() -> None:
    x = random_inputs()
    x[:, 1, 1] = 0.1

    scaling = fit("min_max", dataset(x))
    again = Scaling.from_json(scaling.to_json())
    again.apply(x)

    assert again.kind == "min_max"
    assert again.input_shape == (3, 2)
    np.testing.assert_array_equal(x.min(axis=0), 0.0)
    np.testing.assert_array_equal(x.max(axis=0), [[1, 1], [1, 0], [1, 1]])


def test_a_range_beyond_float64_is_refused() -> None:
    with pytest.raises(InvalidData, match=r"data\.scale: .*too large for the range"):
        fit("min_max", dataset(np.array([[1.7e308], [-1.7e308]])))


@pytest.mark.parametrize(
    "text",
    ['{"kind":"min_max","scale":[1]}', '{"kind":"min_max","scale":[0],"mean":[1]}'],
)
def test_a_damaged_min_max_is_refused(text: str) -> None:
    with pytest.raises(InvalidFile, match=r"^dbp\.scaling: "):
        Scaling.from_json(text)


def fit_together(kind: ScalingKind, data: Dataset, ranks: int) -> list[str]:
    """What each of several threads, taken for ranks, finds."""
    sent: list[np.ndarray] = [np.empty(0)] * ranks
    barrier = threading.Barrier(ranks, timeout=DEADLINE)
    found = [""] * ranks

    def run(rank: int) -> None:
        def gather(read: Callable[[], np.ndarray]) -> np.ndarray:
            sent[rank] = read().copy()
            barrier.wait()
            everything = np.stack(sent)
            barrier.wait()
            return everything

        found[rank] = fit(kind, data, share=Share(rank, ranks, gather)).to_json()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def noise(samples: int = 300) -> np.ndarray:
    return np.random.default_rng(7).normal(size=samples)


@pytest.mark.parametrize("kind", ["standard", "min_max"])
@pytest.mark.parametrize(
    "values",
    [
        14.62 + np.array([0.0, 1.0, 0.0, 1.0]) * 1e-14,
        -14.62 + np.array([0.0, 1.0, 0.0, 1.0]) * 1e-14,
        14.62 + 1e-15 * noise(),
        14.62 * (1 + np.array([0.0, 50.0]) * 2.0**-52),  # a sum in another order
        np.array([0.1 + 0.2, 0.3]),
        1e9 * (1 + 1e-16 * noise()),
        np.array([14.62, 14.620001], np.float32),
        (1e6 * (1 + 1e-8 * noise())).astype(np.float32),
        np.array([1.0, 1.001], np.float16),
    ],
    ids=lambda values: f"{values.dtype}, {values[0]:g}",
)
def test_a_feature_that_differs_by_rounding_is_constant(
    values: np.ndarray, kind: ScalingKind
) -> None:
    other = np.linspace(-1, 1, len(values)).astype(values.dtype)

    scaling = fit(kind, dataset(np.stack([values, other], axis=1)))

    assert scaling.scale[0] == 1.0
    assert scaling.scale[1] > 0.5
    row = np.array([[float(values[0]) + 0.01, 0.0]])
    scaling.apply(row)
    assert 0 < row[0, 0] < 0.1


@pytest.mark.parametrize("kind", ["standard", "min_max"])
@pytest.mark.parametrize(
    "values",
    [
        1e9 + np.array([0.0, 1.0, 2.0, 3.0]),
        1e9 + np.array([0.0, 1.0, 2.0, 3.0]) * 1e-3,
        np.array([1e-100, 2e-100]),
        np.array([0.0, 1e-14]),
        np.array([1_000_000, 1_000_001], np.float32),
        np.array([14.62, 14.6201], np.float32),
        np.array([2**48, 2**48 + 1]),
        np.array([2**31 - 2, 2**31 - 1], np.int32),
    ],
    ids=lambda values: f"{values.dtype}, {values[0]:g}",
)
def test_a_small_variation_that_the_type_can_hold_is_scaled(
    values: np.ndarray, kind: ScalingKind
) -> None:
    scaling = fit(kind, dataset(values[:, None]))

    wide = values.astype(np.float64)
    expected = wide.std() if kind == "standard" else wide.max() - wide.min()
    assert scaling.scale[0] == pytest.approx(expected, rel=1e-6)
    out = np.empty((len(values), 1))
    scaling.convert(wide[:, None], out)
    assert np.ptp(out) == pytest.approx(np.ptp(wide) / expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["standard", "min_max"])
def test_rounding_of_large_numbers_stays_small(kind: ScalingKind) -> None:
    values = np.float32(1.6e9) + np.array([0, 128, 256, 512], np.float32)

    scaling = fit(kind, dataset(values[:, None]))

    assert scaling.scale[0] == 512
    out = np.empty((4, 1))
    scaling.convert(values[:, None], out)
    assert np.abs(out).max() <= 1


def test_a_deviation_made_of_rounding_is_none() -> None:
    """One sample in many differs: the range is large enough, the deviation is not."""
    values = np.full(1_000_000, 14.62)
    values[500] += 1e-12

    assert fit("standard", dataset(values[:, None])).scale[0] == 1.0


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("samples", [1, 700, 1024, 5000])
@pytest.mark.parametrize("kind", ["unit", "standard", "min_max"])
def test_ranks_that_share_the_reading_find_the_same_bits(
    kind: ScalingKind, samples: int, ranks: int
) -> None:
    data = dataset(random_inputs(samples))

    assert fit_together(kind, data, ranks) == [fit(kind, data).to_json()] * ranks
