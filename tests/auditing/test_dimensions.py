"""Ranks and both estimators of intrinsic dimension have known answers; distances equal brute force in float64."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from litetext.auditing import dimensions
from litetext.auditing.dimensions import (
    distinct_rows,
    effective_rank,
    eigenvalues,
    inverse_dimensions,
    linear_rank,
    mle,
    neighbor_distances,
    participation_ratio,
    spectrum_of,
    spectrum_sizes,
    twonn,
    twonn_points,
)
from litetext.errors import ArrayError, OptionError

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


Matrix = npt.NDArray[np.float64]
small_matrices = arrays(
    st.sampled_from([np.float32, np.float64]),
    array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=30),
    elements=st.one_of(st.integers(-3, 3), st.floats(-1000, 1000, width=32)),
)


def brute_force(points: npt.NDArray[np.floating], k: int) -> Matrix:
    """Distances [N, k] in float64, one point at a time."""
    exact = points.astype(np.float64)
    rows = []
    for query in range(len(points)):
        squared = np.square(exact - exact[query]).sum(axis=1)
        rows.append(np.sort(np.delete(squared, query))[:k])
    return np.sqrt(rows)


def assert_exact(points: npt.NDArray[np.floating], k: int, atol: float = 0.0) -> None:
    np.testing.assert_allclose(neighbor_distances(points, k), brute_force(points, k), rtol=1e-12, atol=atol)


@settings(deadline=None, max_examples=100)
@given(small_matrices, st.data())
def test_small_matrices_equal_brute_force(points: Matrix, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(points) - 1))
    # Only of more than k + 16 points that nearly coincide may another one be taken.
    assert_exact(points, k, atol=1e-6 * float(np.abs(points).max()) if len(points) > k + 17 else 0.0)


@settings(deadline=None, max_examples=10)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 40]), st.sampled_from([0.0, 1e4]), st.sampled_from([1e-25, 1e25])
)
def test_other_scales_and_offsets(seed: int, width: int, offset: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    assert_exact((scale * (rng.standard_normal((150, width)) + offset)).astype(np.float32), 20)


def test_small_blocks_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimensions, "_HELD", 5000)
    points = np.random.default_rng(0).standard_normal((203, 7))
    assert_exact(points, 5)
    shares: list[float] = []
    neighbor_distances(points, 5, shares.append)
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_near_copies_keep_all_their_digits() -> None:
    rng = np.random.default_rng(1)
    points = 100 + rng.standard_normal((300, 64))
    points[150:] = points[:150] + 1e-10 * rng.standard_normal((150, 64))
    assert_exact(points, 3)
    assert neighbor_distances(points, 1).max() < 2e-9


def test_tight_clusters_far_apart_and_an_outlier() -> None:
    rng = np.random.default_rng(2)
    centres = np.repeat(1e3 * rng.standard_normal((40, 16)), 10, axis=0)
    points = (centres + 1e-3 * rng.standard_normal(centres.shape)).astype(np.float32)
    points[7] = 1e6
    assert_exact(points, 20)


def test_copies_are_at_distance_zero() -> None:
    points = np.array([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(neighbor_distances(points, 2)[[0, 2, 3]], 0)
    np.testing.assert_array_equal(neighbor_distances(np.full((6, 3), 1e30), 5), 0)


@pytest.mark.parametrize("k", [0, 4])
def test_impossible_counts_are_refused(k: int) -> None:
    with pytest.raises(OptionError, match=rf"{k} neighbors of 4 points"):
        neighbor_distances(np.eye(4), k)


def test_distinct_rows_are_the_first_of_their_kind() -> None:
    rows = np.array([[1.0, 0.0], [2.0, 2.0], [1.0, -0.0], [2.0, 2.0], [0.0, 1.0]])
    assert distinct_rows(rows).tolist() == [0, 1, 4]


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 1)))
def test_distinct_rows_agree_with_numpy(rows: Matrix) -> None:
    kept = distinct_rows(rows)
    assert len(kept) == len(np.unique(rows, axis=0))
    np.testing.assert_array_equal(np.unique(rows[kept], axis=0), np.unique(rows, axis=0))
    assert (np.diff(kept) > 0).all()


def test_twonn_of_exact_pareto_quantiles_is_exact() -> None:
    places = np.arange(1, 1001) / 1000
    ratios = (1 - places[:-1]) ** (-1 / 7)
    assert twonn([*ratios, 1e9], 0.1) == pytest.approx(7, rel=1e-12)
    assert twonn([*ratios, 1e9], 0.0) == pytest.approx(7, rel=1e-12)
    assert len(twonn_points(ratios, 0.25)) == 749


def test_mle_of_known_distances_is_exact() -> None:
    # log(T_4 / T_j) = 3/5, 2/5, 1/5 has the mean 2/5; the second point has the mean 3/5.
    distances = np.exp(np.array([[0, 1, 2, 3], [0, 0, 0, 3]]) / 5)
    np.testing.assert_allclose(inverse_dimensions(distances, 4), [2 / 5, 3 / 5])
    assert mle(distances, 4) == pytest.approx(2)


def test_tied_neighbors_have_no_dimension() -> None:
    with pytest.raises(ArrayError, match="one and the same distance"):
        mle(np.ones((5, 3)), 3)
    with pytest.raises(ArrayError, match="one and the same distance"):
        twonn(np.ones(10), 0.1)
