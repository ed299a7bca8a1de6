"""StreamingMoments add up, and ranks have known answers."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from litetext.auditing.spectrum import (
    StreamingMoments,
    effective_rank,
    eigenvalues,
    linear_rank,
    participation_ratio,
    random_groups,
    resampled_sizes,
    spectrum_sizes,
)
from litetext.errors import ArrayError

Matrix = npt.NDArray[np.float64]
integer_rows = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1000, 1000))
spread = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
variances = arrays(np.float64, st.integers(1, 20), elements=spread).filter(lambda values: values.any())


@given(integer_rows, st.data())
def test_moments_of_parts_merge_into_those_of_the_whole(rows: Matrix, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    merged, whole = StreamingMoments.of(rows[:cut]).merge(StreamingMoments.of(rows[cut:])), StreamingMoments.of(rows)
    # Whole numbers are added without rounding, so this is exact.
    assert merged.count == whole.count == len(rows)
    np.testing.assert_array_equal(merged.total, whole.total)
    np.testing.assert_array_equal(merged.outer, whole.outer)


def test_many_chunks_of_float32_have_the_covariance_of_numpy() -> None:
    rows = np.random.default_rng(0).standard_normal((10_000, 5)).astype(np.float32)
    moments = StreamingMoments.of(rows)
    assert moments.outer.dtype == np.float64
    np.testing.assert_allclose(moments.covariance(), np.cov(rows.astype(np.float64).T, bias=True), atol=1e-13)


def test_moments_of_other_widths_or_of_nothing_are_refused() -> None:
    with pytest.raises(ArrayError, match="3 and of 4 numbers; merge equal widths"):
        StreamingMoments.of(np.ones((2, 3))).merge(StreamingMoments.of(np.ones((2, 4))))
    with pytest.raises(ArrayError, match="no rows"):
        StreamingMoments.of(np.ones((0, 3))).covariance()


@pytest.mark.parametrize("count", [1, 2, 7, 256])
def test_equal_values_fill_every_direction(count: int) -> None:
    values = np.full(count, 3.0)
    assert effective_rank(values) == pytest.approx(count, rel=1e-12)
    assert participation_ratio(values) == pytest.approx(count, rel=1e-12)
    assert linear_rank(values, 1.0) == count


def test_a_single_value_fills_one_direction() -> None:
    sizes = spectrum_sizes(np.array([5.0, 0.0, 0.0]))
    assert (sizes.effective_rank, sizes.rank_95, sizes.rank_99, sizes.participation_ratio) == (1, 1, 1, 1)


def test_known_answers() -> None:
    assert effective_rank([2, 1, 1]) == pytest.approx(2**1.5)
    assert participation_ratio([2, 1, 1]) == pytest.approx(16 / 6)
    assert linear_rank([1, 1, 2], 0.5) == 1
    assert linear_rank([1, 1, 2], 0.51) == 2
    assert linear_rank(np.ones(20), 0.95) == 19  # 19 x 0.05 is short of 0.95 by rounding only
    assert linear_rank(np.ones(100), 0.99) == 99


@given(variances, st.floats(1e-3, 1e3))
def test_sizes_stay_between_one_and_the_width_and_do_not_see_scale(values: Matrix, scale: float) -> None:
    sizes, scaled = spectrum_sizes(values), spectrum_sizes(values * scale)
    top = values.size * (1 + 1e-9)
    assert 1 - 1e-9 <= sizes.participation_ratio <= top
    assert 1 - 1e-9 <= sizes.effective_rank <= top
    assert 1 <= sizes.rank_95 <= sizes.rank_99 <= values.size
    assert scaled.effective_rank == pytest.approx(sizes.effective_rank)
    assert scaled.participation_ratio == pytest.approx(sizes.participation_ratio)


def test_a_spectrum_without_variance_is_refused() -> None:
    with pytest.raises(ArrayError, match="without any variance; give rows that are not all the same"):
        effective_rank(np.zeros(3))


def test_rounding_noise_is_no_direction() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 40))
    values = eigenvalues(StreamingMoments.of(rows - rows.mean(axis=0)).covariance())
    assert np.count_nonzero(values) == 3
    assert (np.diff(values) <= 0).all()


@settings(deadline=None)
@given(integer_rows, st.integers(1, 40), st.integers(0, 9))
def test_random_groups_hold_every_row_once_and_are_centred(rows: Matrix, count: int, seed: int) -> None:
    groups = random_groups(rows, count, np.random.default_rng(seed))
    whole = groups[0]
    for group in groups[1:]:
        whole = whole.merge(group)
    assert len(groups) == min(count, len(rows))
    assert all(group.count > 0 for group in groups)
    assert whole.count == len(rows)
    np.testing.assert_allclose(whole.covariance(), np.atleast_2d(np.cov(rows.T, bias=True)), atol=1e-6)


def test_resampled_sizes_scatter_around_the_value() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((4000, 6))
    sizes = resampled_sizes(random_groups(rows, 32, rng), 50, rng)
    assert sizes.shape == (50, 4)
    np.testing.assert_allclose(sizes.mean(axis=0), [6, 6, 6, 6], rtol=0.02)
    assert (sizes[:, 3].std() > 0).all()


def test_samples_without_spread_are_left_out() -> None:
    groups = [StreamingMoments.of(np.array([[value]])) for value in (-1.0, 1.0)]
    sizes = resampled_sizes(groups, 100, np.random.default_rng(3))
    assert 0 < len(sizes) < 100  # half of the samples draw one row twice
    np.testing.assert_allclose(sizes, 1)
