"""Geometry has known answers, agrees with scikit-dimension, and refuses what it cannot measure."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.auditing.dimensions import distinct_rows, mle, neighbor_distances
from litetext.auditing.geometry import GeometryStats, measure_geometry
from litetext.errors import ArrayError, OptionError

Matrix = npt.NDArray[np.floating]
CLIP = Path(__file__).parents[2].parent / "shared/data/clip_text_embeddings"
QUICK: dict[str, Any] = {"resamples": 20}
ESTIMATES = ("effective_rank", "rank_95", "rank_99", "participation_ratio", "twonn", "mle")


def gaussian(count: int, dimension: int, ambient: int, seed: int = 0) -> Matrix:
    """Isotropic Gaussian [count, ambient] in a random subspace."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((ambient, dimension)))[0]
    return rng.standard_normal((count, dimension)) @ basis.T


def numbers(stats: GeometryStats) -> Matrix:
    """Every estimate with its interval [6, 3]."""
    fields = asdict(stats)
    return np.array([[fields[name][part] for part in ("value", "low", "high")] for name in ESTIMATES])


@pytest.fixture(scope="module")
def seven() -> GeometryStats:
    return measure_geometry(gaussian(4000, 7, 256) + 3)


def test_a_7d_gaussian_in_256d_gives_7(seven: GeometryStats) -> None:
    assert seven.ambient == 256
    assert seven.rank_99.value == seven.rank_99.low == seven.rank_99.high == 7
    assert seven.rank_95.value == 7
    assert seven.effective_rank.value == pytest.approx(7, rel=0.01)
    assert seven.participation_ratio.value == pytest.approx(7, rel=0.02)
    assert seven.twonn.value == pytest.approx(7, rel=0.05)
    assert seven.mle.value == pytest.approx(7, rel=0.03)


def test_intervals_enclose_the_value(seven: GeometryStats) -> None:
    values = numbers(seven)
    assert (values[:, 1] <= values[:, 0]).all()
    assert (values[:, 0] <= values[:, 2]).all()
    assert seven.twonn.low < 7 < seven.twonn.high


def test_figures_data(seven: GeometryStats) -> None:
    assert len(seven.variance_shares) == 256
    assert sum(seven.variance_shares) == pytest.approx(1)
    assert list(seven.variance_shares) == sorted(seven.variance_shares, reverse=True)
    x, y = np.array(seven.twonn_log_mu), np.array(seven.twonn_log_survival)
    assert len(x) == len(y) == 500
    assert (np.diff(x) >= 0).all()
    assert x @ y / (x @ x) == pytest.approx(seven.twonn.value, rel=0.02)


def test_json_holds_finite_numbers_only(seven: GeometryStats) -> None:
    fields = json.loads(json.dumps(asdict(seven), allow_nan=False))
    assert set(fields) == set(asdict(seven))
    assert set(fields["mle"]) == {"value", "low", "high"}
    assert (fields["points"], fields["duplicates"]) == (4000, 0)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_uniform_cubes_give_their_dimension(dimension: int) -> None:
    points = np.zeros((3000, 12), dtype=np.float32)
    points[:, :dimension] = np.random.default_rng(dimension).random((3000, dimension))
    stats = measure_geometry(points, **QUICK)
    # Faces pull both estimates down, more so the higher the dimension.
    assert stats.twonn.value == pytest.approx(dimension, rel=0.15)
    assert stats.mle.value == pytest.approx(dimension, rel=0.2)
    assert stats.participation_ratio.value == pytest.approx(dimension, rel=0.02)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_turned_scaled_and_moved_points_have_the_same_geometry(seed: int, scale: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((60, 6)) * np.arange(1, 7)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    before, after = (measure_geometry(rows, **QUICK) for rows in (points, scale * (points @ turn + offset)))
    np.testing.assert_allclose(numbers(after), numbers(before), rtol=1e-6)


def skdim_twonn(points: Matrix, discard: float) -> float:
    skdim = pytest.importorskip("skdim")
    return float(skdim.id.TwoNN(discard_fraction=discard).fit(points).dimension_)


def skdim_mle(points: Matrix, ks: range) -> float:
    skdim = pytest.importorskip("skdim")
    return float(np.mean([skdim.id.MLE().fit(points, n_neighbors=k, comb="mle").dimension_ for k in ks]))


@pytest.mark.parametrize("discard", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("ambient", [9, 64])
def test_agrees_with_scikit_dimension(discard: float, ambient: int) -> None:
    points = np.sin(gaussian(800, 5, ambient, seed=ambient) * 2)
    stats = measure_geometry(points, discard=discard, neighbors=(12, 15), **QUICK)
    assert stats.twonn.value == pytest.approx(skdim_twonn(points, discard), rel=1e-6)
    assert stats.mle.value == pytest.approx(skdim_mle(points, range(12, 16)), rel=1e-6)


@pytest.mark.data
@pytest.mark.skipif(not CLIP.is_dir(), reason=f"no {CLIP}")
@pytest.mark.parametrize("name", ["coco", "oid", "o365", "lvis_v1"])
def test_clip_embeddings_agree_with_scikit_dimension(name: str) -> None:
    (path,) = CLIP.glob(f"detic_{name}_clip*.npy")
    points = np.load(path, allow_pickle=False)
    stats = measure_geometry(points, **QUICK)
    # Float64, since scikit-learn's float32 distances lose digits between near copies.
    distinct = points[distinct_rows(points)].astype(np.float64)
    assert stats.points - stats.duplicates == len(distinct)
    assert stats.twonn.value == pytest.approx(skdim_twonn(distinct, 0.1), rel=1e-6)
    assert stats.mle.value == pytest.approx(skdim_mle(distinct, range(10, 21)), rel=1e-6)
    assert stats.mle.value < stats.participation_ratio.value < stats.effective_rank.value < min(points.shape)
    assert stats.rank_95.value < stats.rank_99.value < min(points.shape)


def test_copies_are_counted_and_do_not_change_the_dimension() -> None:
    points = gaussian(300, 4, 10)
    once, twice = measure_geometry(points, **QUICK), measure_geometry(np.vstack([points, points]), **QUICK)
    assert (once.points, once.duplicates) == (300, 0)
    assert (twice.points, twice.duplicates) == (600, 300)
    np.testing.assert_allclose(numbers(twice)[:, 0], numbers(once)[:, 0], rtol=1e-9)


def test_copies_weigh_in_the_spectrum() -> None:
    points = np.vstack([np.eye(4), np.repeat(2 * np.eye(4)[:1], 50, axis=0), 3 * np.eye(4)[:2]])
    all_rows = np.linalg.eigvalsh(np.cov(points.T))
    stats = measure_geometry(points, **QUICK)
    assert stats.duplicates == 49
    assert stats.participation_ratio.value == pytest.approx(all_rows.sum() ** 2 / np.square(all_rows).sum())


def test_the_range_of_k_shrinks_where_points_are_few() -> None:
    points = np.random.default_rng(5).standard_normal((8, 3))
    stats = measure_geometry(points, **QUICK)
    assert (stats.k_min, stats.k_max) == (7, 7)
    assert stats.mle.value == pytest.approx(mle(neighbor_distances(points, 7), 7))
    smallest = measure_geometry(points[:3], **QUICK)
    assert (smallest.k_min, smallest.k_max) == (2, 2)


def test_the_seed_decides_the_intervals_only() -> None:
    points = gaussian(200, 3, 5)
    first, same, other = (measure_geometry(points, seed=seed, **QUICK) for seed in (0, 0, 1))
    assert first == same
    np.testing.assert_allclose(numbers(other)[:, 0], numbers(first)[:, 0], rtol=1e-12)
    assert first.twonn.low != other.twonn.low


def test_intervals_narrow_with_points() -> None:
    points = gaussian(2000, 5, 8)
    many, few = (measure_geometry(rows, resamples=100).mle for rows in (points, points[:200]))
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_whole_and_half_numbers_and_one_column_are_measured() -> None:
    values = np.random.default_rng(6).permutation(10_000)[:400].reshape(100, 4)
    as_float = measure_geometry(values.astype(np.float64), **QUICK)
    assert measure_geometry(values, **QUICK) == as_float
    assert measure_geometry((values % 2048).astype(np.float16), **QUICK).ambient == 4
    line = measure_geometry(np.random.default_rng(7).random((500, 1)), **QUICK)
    assert line.rank_95.value == line.effective_rank.value == 1
    assert line.twonn.value == pytest.approx(1, rel=0.2)


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    measure_geometry(gaussian(100, 2, 3), progress=shares.append, **QUICK)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones(5), r"float64 of shape \[5\] is no matrix of numbers; give \[rows, columns\]"),
        (np.ones((0, 5)), r"float64 of shape \[0, 5\] is no matrix"),
        (np.full((4, 2), "a"), r"<U1 of shape \[4, 2\] is no matrix"),
        (np.ones((50, 4)), r"1 distinct of 50 rows; give at least 3 distinct rows"),
        (np.eye(2), r"2 distinct of 2 rows"),
        (np.array([[0, 1], [np.nan, 1], [2, 1]]), r"1 rows hold NaN or infinity, first in row 1; drop or fix"),
        (np.array([[0, 1], [1, 1], [np.inf, 1]]), r"1 rows hold NaN or infinity, first in row 2"),
        (-1e200 * np.eye(5), r"numbers above 1e\+100; scale the rows down"),
        (1e-200 * np.eye(5), r"without any variance"),
        (np.vstack([np.eye(4), 1e-180 * np.eye(4)]), r"distance 0 to rounding; scale the rows up"),
        (np.eye(30), r"one and the same distance; give rows that are not a regular grid"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(matrix: Matrix, message: str) -> None:
    with pytest.raises(ArrayError, match=message) as caught:
        measure_geometry(matrix, **QUICK)
    assert "\n" not in str(caught.value)


def test_a_grid_with_a_few_loose_points_stays_finite() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
    loose = 2 + 0.3 * np.random.default_rng(8).standard_normal((40, 3))
    stats = measure_geometry(np.vstack([grid, loose]), **QUICK)
    assert np.isfinite(numbers(stats)).all()


def test_too_large_a_discard_names_what_is_left() -> None:
    with pytest.raises(ArrayError, match="1 of 10 distance ratios left; discard fewer or give more"):
        measure_geometry(np.random.default_rng(9).random((10, 2)), discard=0.85, **QUICK)


@pytest.mark.parametrize(
    "options", [{"discard": 1.0}, {"discard": -0.1}, {"neighbors": (1, 5)}, {"neighbors": (10, 5)}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        measure_geometry(np.eye(5), **options)
