"""Ranks have known answers, and bootstrap samples scatter around them."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from litetext.auditing.spectrum import (
    effective_rank,
    eigenvalues,
    linear_rank,
    participation_ratio,
    spectrum_of,
    spectrum_sizes,
)
from litetext.errors import ArrayError

Matrix = npt.NDArray[np.float64]
integer_rows = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1000, 1000))
spread = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
variances = arrays(np.float64, st.integers(1, 20), elements=spread).filter(lambda values: values.any())


@pytest.mark.parametrize("count", [1, 2, 7, 256])
def test_equal_values_fill_every_direction(count: int) -> None:
    values = np.full(count, 3.0)
    assert effective_rank(values) == pytest.approx(count, rel=1e-12)
    assert participation_ratio(values) == pytest.approx(count, rel=1e-12)
    assert linear_rank(values, 1.0) == count


def test_a_single_value_fills_one_direction() -> None:
    assert spectrum_sizes(np.array([5.0, 0.0, 0.0])) == (1, 1, 1, 1)


def test_known_answers() -> None:
    assert effective_rank([2, 1, 1]) == pytest.approx(2**1.5)
    assert participation_ratio([2, 1, 1]) == pytest.approx(16 / 6)
    assert linear_rank([1, 1, 2], 0.5) == 1
    assert linear_rank([1, 1, 2], 0.51) == 2
    assert linear_rank(np.ones(20), 0.95) == 19  # 19 x 0.05 is short of 0.95 by rounding only
    assert linear_rank(np.ones(100), 0.99) == 99


@given(variances, st.floats(1e-3, 1e3))
def test_sizes_stay_between_one_and_the_width_and_do_not_see_scale(values: Matrix, scale: float) -> None:
    rank, rank_95, rank_99, ratio = spectrum_sizes(values)
    top = values.size * (1 + 1e-9)
    assert 1 - 1e-9 <= ratio <= top
    assert 1 - 1e-9 <= rank <= top
    assert 1 <= rank_95 <= rank_99 <= values.size
    scaled = spectrum_sizes(values * scale)
    assert (scaled[0], scaled[3]) == pytest.approx((rank, ratio))


def test_a_spectrum_without_variance_is_refused() -> None:
    with pytest.raises(ArrayError, match="variance"):
        effective_rank(np.zeros(3))


def test_rounding_noise_is_no_direction() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 40))
    values = eigenvalues(np.cov(rows.T, bias=True))
    assert np.count_nonzero(values) == 3
    assert (np.diff(values) <= 0).all()


@settings(deadline=None)
@given(integer_rows, st.integers(1, 40), st.integers(0, 9))
def test_groups_of_any_number_have_the_covariance_of_all_rows(rows: Matrix, groups: int, seed: int) -> None:
    values, _ = spectrum_of(rows, groups, 0, np.random.default_rng(seed))
    np.testing.assert_allclose(values, eigenvalues(np.atleast_2d(np.cov(rows.T, bias=True))), atol=1e-6, rtol=1e-9)


def test_float32_rows_are_summed_in_float64() -> None:
    rows = np.random.default_rng(0).standard_normal((10_000, 5)).astype(np.float32) + np.float32(100)
    values, _ = spectrum_of(rows, 32, 0, np.random.default_rng(0))
    np.testing.assert_allclose(values, eigenvalues(np.cov(rows.astype(np.float64).T, bias=True)), rtol=1e-12)


def test_resampled_sizes_scatter_around_the_value() -> None:
    rng = np.random.default_rng(2)
    _, sizes = spectrum_of(rng.standard_normal((4000, 6)), 32, 50, rng)
    assert sizes.shape == (50, 4)
    np.testing.assert_allclose(sizes.mean(axis=0), [6, 6, 6, 6], rtol=0.02)
    assert (sizes[:, 3].std() > 0).all()


def test_samples_without_spread_are_left_out() -> None:
    _, sizes = spectrum_of(np.array([[-1.0], [1.0]]), 2, 100, np.random.default_rng(3))
    assert 0 < len(sizes) < 100  # half of the samples draw one row twice
    np.testing.assert_allclose(sizes, 1)
