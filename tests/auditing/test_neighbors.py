"""Nearest neighbors equal brute force in float64, whatever the points look like."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from litetext.auditing import neighbors
from litetext.auditing.neighbors import distinct_rows, nearest
from litetext.errors import OptionError

Matrix = npt.NDArray[np.float64]
small_matrices = arrays(
    st.sampled_from([np.float32, np.float64]),
    array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=30),
    elements=st.one_of(st.integers(-3, 3), st.floats(-1000, 1000, width=32)),
)


def brute_force(points: npt.NDArray[np.floating], k: int, queries: npt.NDArray[np.int64]) -> Matrix:
    """Distances [Q, k] in float64, one query at a time."""
    exact = points.astype(np.float64)
    rows = []
    for query in queries:
        squared = np.square(exact - exact[query]).sum(axis=1)
        rows.append(np.sort(np.delete(squared, query))[:k])
    return np.sqrt(rows)


def assert_exact(points: npt.NDArray[np.floating], k: int, queries: npt.NDArray[np.int64] | None = None) -> None:
    """Distances equal brute force, and the indices lead to them."""
    found = nearest(points, k, queries)
    asked = np.arange(len(points)) if queries is None else queries
    np.testing.assert_allclose(found.distances, brute_force(points, k, asked), rtol=1e-12, atol=0)
    exact = points.astype(np.float64)
    to_indices = np.linalg.norm(exact[found.indices] - exact[asked][:, None], axis=2)
    np.testing.assert_allclose(to_indices, found.distances, rtol=1e-12, atol=0)
    assert (found.indices != asked[:, None]).all()
    assert all(len(set(row)) == k for row in found.indices.tolist())


@settings(deadline=None, max_examples=100)
@given(small_matrices, st.data())
def test_small_matrices_equal_brute_force(points: Matrix, data: st.DataObject) -> None:
    assert_exact(points, data.draw(st.integers(1, len(points) - 1)))


@settings(deadline=None, max_examples=10)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1025, 2600),
    st.sampled_from([1, 2, 5, 40]),
    st.sampled_from([0.0, 1.0, 1e4]),
    st.sampled_from([1e-25, 1.0, 1e25]),
)
def test_more_columns_than_classes(seed: int, count: int, width: int, offset: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points = (scale * (rng.standard_normal((count, width)) + offset)).astype(np.float32)
    assert_exact(points, 20, rng.choice(count, 30, replace=False))


def test_small_blocks_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_SCREEN", 5000)
    monkeypatch.setattr(neighbors, "_PAIRS", 50)
    points = np.random.default_rng(0).standard_normal((203, 7))
    assert_exact(points, 5)
    shares: list[float] = []
    nearest(points, 5, progress=shares.append)
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_near_copies_keep_all_their_digits() -> None:
    rng = np.random.default_rng(1)
    points = 100 + rng.standard_normal((300, 64))
    points[150:] = points[:150] + 1e-10 * rng.standard_normal((150, 64))
    assert_exact(points, 3)
    assert nearest(points, 1).distances.max() < 2e-9


def test_tight_clusters_far_apart_and_an_outlier() -> None:
    rng = np.random.default_rng(2)
    centres = np.repeat(1e3 * rng.standard_normal((40, 16)), 50, axis=0)
    points = (centres + 1e-3 * rng.standard_normal(centres.shape)).astype(np.float32)
    points[7] = 1e8
    assert_exact(points, 20, np.arange(0, 2000, 37))


def test_neighbors_that_fall_in_the_same_class_of_columns() -> None:
    rng = np.random.default_rng(3)
    period = neighbors._COLUMNS
    points = np.tile(rng.standard_normal((period, 8)), (12, 1)) + 1e-2 * rng.standard_normal((12 * period, 8))
    assert_exact(points.astype(np.float32), 11, np.arange(0, 12 * period, 997))


def test_copies_are_neighbors_at_distance_zero_in_the_order_of_the_rows() -> None:
    points = np.array([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0], [0.0, 1.0]])
    found = nearest(points, 2)
    np.testing.assert_array_equal(found.indices[[0, 2, 3]], [[2, 3], [0, 3], [0, 2]])
    np.testing.assert_array_equal(found.distances[[0, 2, 3]], 0)


def test_points_that_are_all_the_same() -> None:
    np.testing.assert_array_equal(nearest(np.full((6, 3), 1e30), 5).distances, 0)


@pytest.mark.parametrize("k", [0, 4])
def test_impossible_counts_are_refused(k: int) -> None:
    with pytest.raises(OptionError, match=rf"{k} neighbors of 4 points, k; give 1..3"):
        nearest(np.eye(4), k)


def test_distinct_rows_are_the_first_of_their_kind() -> None:
    rows = np.array([[1.0, 0.0], [2.0, 2.0], [1.0, -0.0], [2.0, 2.0], [0.0, 1.0]])
    assert distinct_rows(rows).tolist() == [0, 1, 4]


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 1)))
def test_distinct_rows_agree_with_numpy(rows: Matrix) -> None:
    kept = distinct_rows(rows)
    assert len(kept) == len(np.unique(rows, axis=0))
    np.testing.assert_array_equal(np.unique(rows[kept], axis=0), np.unique(rows, axis=0))
    assert (np.diff(kept) > 0).all()
