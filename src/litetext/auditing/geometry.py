"""Geometry of embeddings: how many dimensions a cloud of points has, fills and needs, each with an interval.

The linear sizes (effective rank, linear rank, participation ratio) come from the covariance of all rows; the intrinsic
dimensions (TwoNN, maximum likelihood) from distances to nearest neighbors among the DISTINCT rows, since a copy stands
at distance 0, where both estimators break down.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.auditing.dimensions import (
    SIZES,
    distinct_rows,
    inverse_dimensions,
    mle,
    neighbor_distances,
    slope_through_origin,
    spectrum_of,
    spectrum_sizes,
    twonn,
    twonn_points,
)
from litetext.errors import ArrayError, OptionError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_GROUPS = 32  # parts of the rows whose moments are resampled
_CONFIDENCE = 0.95
_DRAWN = 500  # points of the TwoNN fit that are kept for a figure
_LARGEST = 1e100  # squares and their sums stay finite below


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GeometryStats:
    """Sizes of a cloud of points."""

    points: int  # rows, copies included
    duplicates: int  # rows that equal an earlier row; left out of `twonn` and `mle`, kept in the rest
    ambient: int  # number of columns
    effective_rank: Estimate  # exponential of the entropy of the singular values of the centred rows
    rank_95: Estimate  # principal directions that carry 95 % of the variance
    rank_99: Estimate  # principal directions that carry 99 % of the variance
    participation_ratio: Estimate  # squared sum of the eigenvalues over the sum of their squares
    twonn: Estimate  # intrinsic dimension from the ratio of the distances to the two nearest neighbors
    mle: Estimate  # intrinsic dimension by maximum likelihood from the nearest k, averaged over k = k_min..k_max
    k_min: int  # smallest k used
    k_max: int  # largest k used
    # share of the variance of each principal direction, largest first; their sum is 1
    variance_shares: tuple[float, ...]
    twonn_log_mu: tuple[float, ...]  # log mu of at most 500 points of the TwoNN fit, ascending: the figure's x
    # -log(1 - F(mu)) of the same points: the figure's y, on a line of slope `twonn`
    twonn_log_survival: tuple[float, ...]


def measure_geometry(
    matrix: npt.NDArray[Any],
    *,
    discard: float = 0.1,
    neighbors: tuple[int, int] = (10, 20),
    resamples: int = 200,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> GeometryStats:
    """Measure the geometry of rows.

    The intervals are normal bootstrap intervals, value +- z x standard deviation of the bootstrap samples (Efron &
    Tibshirani 1993, chapter 13): samples with repeated rows have lower ranks than the rows, so their percentiles need
    not enclose the value. The spectrum is resampled by moments of random groups of rows, the intrinsic dimensions by
    the values of single points (the neighbors stay what they are).

    Args:
        matrix: [N, D], finite numbers, a point a row.
        discard: share 0..1 of the largest distance ratios that TwoNN leaves out (0.1 in the paper).
        neighbors: smallest and largest k of the maximum likelihood estimate, of which the mean is taken; fewer where
            there are too few points.
        resamples: number of bootstrap samples, 20 or more.
        seed: of the bootstrap.
        progress: called with the share of the points whose neighbors are known, 0..1; that is most of the time.

    Raises:
        ArrayError: not a matrix of finite numbers, fewer than 3 distinct rows, or distances that are all the same.
    """
    check_geometry_options(discard, neighbors)
    points = _checked(matrix)
    rng = np.random.default_rng(seed)
    distinct = points[distinct_rows(points)]
    if len(distinct) < 3:
        raise ArrayError(f"{len(distinct)} distinct of {len(points)} rows", hint="give at least 3 distinct rows")
    variances, resampled = spectrum_of(points, _GROUPS, resamples, rng)
    within = (1.0, float(points.shape[1]))
    sizes = (
        _estimate(value, column, within) for value, column in zip(spectrum_sizes(variances), resampled.T, strict=True)
    )
    distances = neighbor_distances(distinct, min(neighbors[1], len(distinct) - 1), progress)
    if not distances.all():
        raise ArrayError("distinct rows at distance 0 to rounding", hint="scale the rows up or round them")
    mu = distances[:, 1] / distances[:, 0]
    ks = range(min(neighbors[0], distances.shape[1]), distances.shape[1] + 1)
    fit = twonn_points(mu, discard)
    drawn = fit[np.unique(np.linspace(0, len(fit) - 1, _DRAWN).round().astype(np.int64))]
    return GeometryStats(
        points=len(points),
        duplicates=len(points) - len(distinct),
        ambient=points.shape[1],
        **dict(zip(SIZES, sizes, strict=True)),
        twonn=_twonn_estimate(mu, discard, resamples, rng),
        mle=_mle_estimate(distances, ks, resamples, rng),
        k_min=ks[0],
        k_max=ks[-1],
        variance_shares=tuple((variances / variances.sum()).tolist()),
        twonn_log_mu=tuple(drawn[:, 0].tolist()),
        twonn_log_survival=tuple(drawn[:, 1].tolist()),
    )


def check_geometry_options(discard: float, neighbors: tuple[int, int]) -> None:
    """Refuse options of `measure_geometry` before anything is measured."""
    if not 0 <= discard < 1:
        raise OptionError(f"discard = {discard}", hint="give a share from 0 to below 1")
    if not 2 <= neighbors[0] <= neighbors[1]:
        raise OptionError(f"neighbors = {neighbors}", hint="give two rising numbers from 2 on, for example 10,20")


def _checked(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The matrix as float32 or float64, if its numbers are finite and can be squared."""
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "fiu":
        what = f"{matrix.dtype} of shape {list(matrix.shape)} is no matrix of numbers"
        raise ArrayError(what, hint="give [rows, columns]")
    points = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if bad.size:
        what = f"{bad.size} rows hold NaN or infinity"
        raise ArrayError(what, where=f"first in row {bad[0]}", hint="drop or fix them")
    if max(float(points.max()), -float(points.min())) > _LARGEST:
        raise ArrayError(f"numbers above {_LARGEST:g}", hint="scale the rows down")
    return points


def _twonn_estimate(mu: Vector, discard: float, resamples: int, rng: np.random.Generator) -> Estimate:
    """TwoNN with an interval from resampled ratios mu [N]."""
    logs = np.log(np.sort(mu))
    survival = twonn_points(mu, discard)[:, 1]
    slopes = [
        slope_through_origin(np.repeat(logs, counts)[: survival.size], survival)
        for counts in _bootstrap_counts(mu.size, resamples, rng)
    ]
    return _estimate(twonn(mu, discard), np.array(slopes), (0.0, np.inf))


def _mle_estimate(distances: Matrix, ks: range, resamples: int, rng: np.random.Generator) -> Estimate:
    """Mean of the maximum likelihood estimates over k, with an interval from resampled points."""
    value = float(np.mean([mle(distances, k) for k in ks]))
    inverses = np.stack([inverse_dimensions(distances, k) for k in ks])
    count = len(distances)
    with np.errstate(divide="ignore"):
        means = [float(np.mean(count / (inverses @ counts))) for counts in _bootstrap_counts(count, resamples, rng)]
    return _estimate(value, np.array(means), (0.0, np.inf))


def _bootstrap_counts(count: int, resamples: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """How often each of ``count`` items is in each bootstrap sample."""
    return (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(resamples))


def _estimate(value: float, resampled: Vector, within: tuple[float, float]) -> Estimate:
    """Normal bootstrap interval, clipped; samples in which all distances are tied (infinite) are left out."""
    half = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2) * float(np.std(resampled[np.isfinite(resampled)], ddof=1))
    low, high = within
    return Estimate(float(value), max(low, value - half), min(high, value + half))
