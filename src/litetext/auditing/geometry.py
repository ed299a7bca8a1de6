"""Geometry of embeddings: how many dimensions a cloud of points has, fills and needs, each with an interval.

The linear sizes (effective rank, linear rank, participation ratio) come from the covariance of all rows; the intrinsic
dimensions (TwoNN, maximum likelihood) from distances to nearest neighbors among the DISTINCT rows, since a copy stands
at distance 0, where both estimators break down.
"""

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from functools import reduce
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.auditing.intrinsic import inverse_dimensions, mle, slope_through_origin, twonn, twonn_points
from litetext.auditing.neighbors import Progress, distinct_rows, nearest
from litetext.auditing.spectrum import StreamingMoments, eigenvalues, random_groups, resampled_sizes, spectrum_sizes
from litetext.errors import ArrayError, OptionError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_GROUPS = 32  # parts of the rows whose moments are resampled
_DRAWN = 500  # points of the TwoNN fit that are kept for a figure
_LARGEST = 1e100  # squares and their sums stay finite below


@dataclass(frozen=True)
class GeometryOptions:
    """What to measure and how closely.

    Args:
        discard: share 0..1 of the largest distance ratios that TwoNN leaves out (0.1 in the paper).
        k_min: smallest number of neighbors for the maximum likelihood estimate.
        k_max: largest one; the estimates for k_min..k_max are averaged. Fewer where there are too few points.
        resamples: number of bootstrap samples.
        confidence: level of the intervals, 0..1.
        seed: seed of the bootstrap and of the choice of points.
        max_points: look up the neighbors of this many distinct points only (among all of them); None: of all.

    Raises:
        OptionError: a value makes no sense.
    """

    discard: float = 0.1
    k_min: int = 10
    k_max: int = 20
    resamples: int = 200
    confidence: float = 0.95
    seed: int = 0
    max_points: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _require(0 <= self.discard < 1, "discard", self.discard, "a share from 0 to below 1")
        _require(self.k_min >= 2, "k_min", self.k_min, "2 or more")
        _require(self.k_max >= self.k_min, "k_max", self.k_max, f"k_min = {self.k_min} or more")
        _require(self.resamples >= 20, "resamples", self.resamples, "20 or more")
        _require(0 < self.confidence < 1, "confidence", self.confidence, "a level between 0 and 1")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.max_points is None or self.max_points >= 3, "max_points", self.max_points, "3 or more, or None")


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GeometryStats:
    """Sizes of a cloud of points.

    Args:
        points: number of rows, copies included.
        duplicates: rows that equal an earlier row; left out of ``twonn`` and ``mle``, kept in the rest.
        measured: distinct points whose neighbors were looked up.
        ambient: number of columns.
        effective_rank: exponential of the entropy of the singular values of the centred rows.
        rank_95: principal directions that carry 95 % of the variance.
        rank_99: principal directions that carry 99 % of the variance.
        participation_ratio: squared sum of the eigenvalues over the sum of their squares.
        twonn: intrinsic dimension from the ratio of the distances to the two nearest neighbors.
        mle: intrinsic dimension by maximum likelihood from the nearest k, averaged over k = k_min..k_max.
        k_min: smallest k used.
        k_max: largest k used.
        variance_shares: share of the variance of each principal direction, largest first; their sum is 1.
        twonn_log_mu: log mu of at most 500 points of the TwoNN fit, ascending: the figure's x.
        twonn_log_survival: -log(1 - F(mu)) of the same points: the figure's y, on a line of slope ``twonn``.
    """

    points: int
    duplicates: int
    measured: int
    ambient: int
    effective_rank: Estimate
    rank_95: Estimate
    rank_99: Estimate
    participation_ratio: Estimate
    twonn: Estimate
    mle: Estimate
    k_min: int
    k_max: int
    variance_shares: tuple[float, ...]
    twonn_log_mu: tuple[float, ...]
    twonn_log_survival: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Fields as plain finite numbers; an estimate is {"value", "low", "high"}."""
        return asdict(self)


def measure_geometry(
    matrix: npt.NDArray[Any], options: GeometryOptions, progress: Progress | None = None
) -> GeometryStats:
    """Measure the geometry of rows.

    The intervals are normal bootstrap intervals, value +- z x standard deviation of the bootstrap samples (Efron &
    Tibshirani 1993, chapter 13): samples with repeated rows have lower ranks than the rows, so their percentiles need
    not enclose the value. The spectrum is resampled by moments of random groups of rows, the intrinsic dimensions by
    the values of single points (the neighbors stay what they are).

    Args:
        matrix: [N, D], finite numbers, a point a row.
        options: what to measure.
        progress: called with the share of the points whose neighbors are known, 0..1; that is most of the time.

    Raises:
        ArrayError: not a matrix of finite numbers, fewer than 3 distinct rows, or distances that are all the same.
    """
    points = _checked(matrix)
    rng = np.random.default_rng(options.seed)
    kept = distinct_rows(points)
    if kept.size < 3:
        raise ArrayError(f"{kept.size} distinct of {len(points)} rows", hint="give at least 3 distinct rows")
    sizes, shares = _spectrum(points, options, rng)
    distances = _distances(points, kept, options, rng, progress)
    mu = distances[:, 1] / distances[:, 0]
    ks = range(min(options.k_min, distances.shape[1]), distances.shape[1] + 1)
    fit = twonn_points(mu, options.discard)
    drawn = fit[np.unique(np.linspace(0, len(fit) - 1, _DRAWN).round().astype(np.int64))]
    return GeometryStats(
        points=len(points),
        duplicates=len(points) - kept.size,
        measured=len(distances),
        ambient=points.shape[1],
        effective_rank=sizes[0],
        rank_95=sizes[1],
        rank_99=sizes[2],
        participation_ratio=sizes[3],
        twonn=_twonn_estimate(mu, options, rng),
        mle=_mle_estimate(distances, ks, options, rng),
        k_min=ks[0],
        k_max=ks[-1],
        variance_shares=tuple(shares.tolist()),
        twonn_log_mu=tuple(drawn[:, 0].tolist()),
        twonn_log_survival=tuple(drawn[:, 1].tolist()),
    )


def _checked(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The matrix as float32 or float64.

    Raises:
        ArrayError: it is not a matrix of finite numbers, or they are too large to be squared.
    """
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "fiu":
        raise ArrayError(
            f"{matrix.dtype} of shape {list(matrix.shape)} is no matrix of numbers", hint="give [rows, columns]"
        )
    points = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if bad.size:
        raise ArrayError(
            f"{bad.size} rows hold NaN or infinity", where=f"first in row {bad[0]}", hint="drop or fix them"
        )
    if max(float(points.max()), -float(points.min())) > _LARGEST:
        raise ArrayError(f"numbers above {_LARGEST:g}", hint="scale the rows down")
    return points


def _spectrum(
    points: npt.NDArray[Any], options: GeometryOptions, rng: np.random.Generator
) -> tuple[list[Estimate], Vector]:
    """Estimates in the order of the fields of `SpectrumSizes`, and the shares of variance [D]."""
    groups = random_groups(points, _GROUPS, rng)
    variances = eigenvalues(reduce(StreamingMoments.merge, groups).covariance())
    values = astuple(spectrum_sizes(variances))
    resampled = resampled_sizes(groups, options.resamples, rng)
    within = (1.0, float(points.shape[1]))
    estimates = [
        _estimate(value, column, options.confidence, within) for value, column in zip(values, resampled.T, strict=True)
    ]
    return estimates, variances / variances.sum()


def _distances(
    points: npt.NDArray[Any],
    kept: npt.NDArray[np.int64],
    options: GeometryOptions,
    rng: np.random.Generator,
    progress: Progress | None,
) -> Matrix:
    """Distances [measured, k] to the nearest other distinct points, k the smaller of k_max and what there is.

    Raises:
        ArrayError: two distinct points are so close that the square of their distance is 0 in float64.
    """
    distinct = points if kept.size == len(points) else points[kept]
    queries = None
    if options.max_points is not None and options.max_points < kept.size:
        queries = np.sort(rng.choice(kept.size, options.max_points, replace=False))
    distances = nearest(distinct, min(options.k_max, kept.size - 1), queries, progress).distances
    if not distances.all():
        raise ArrayError("distinct rows at distance 0 to rounding", hint="scale the rows up or round them")
    return distances


def _twonn_estimate(mu: Vector, options: GeometryOptions, rng: np.random.Generator) -> Estimate:
    """TwoNN with an interval from resampled ratios mu [N]."""
    value = twonn(mu, options.discard)
    logs = np.log(np.sort(mu))
    survival = twonn_points(mu, options.discard)[:, 1]
    resampled = [
        slope_through_origin(np.repeat(logs, np.bincount(draw, minlength=mu.size))[: survival.size], survival)
        for draw in _draws(mu.size, options.resamples, rng)
    ]
    return _estimate(value, np.array(resampled), options.confidence, (0.0, np.inf))


def _mle_estimate(distances: Matrix, ks: range, options: GeometryOptions, rng: np.random.Generator) -> Estimate:
    """Mean of the maximum likelihood estimates over k, with an interval from resampled points."""
    value = float(np.mean([mle(distances, k) for k in ks]))
    inverses = np.stack([inverse_dimensions(distances, k) for k in ks])
    count = len(distances)
    with np.errstate(divide="ignore"):
        resampled = [
            float(np.mean(count / (inverses @ np.bincount(draw, minlength=count))))
            for draw in _draws(count, options.resamples, rng)
        ]
    return _estimate(value, np.array(resampled), options.confidence, (0.0, np.inf))


def _draws(count: int, resamples: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Bootstrap samples: each ``count`` places in 0..count-1, with replacement."""
    return (rng.integers(count, size=count) for _ in range(resamples))


def _estimate(value: float, resampled: Vector, confidence: float, within: tuple[float, float]) -> Estimate:
    """Normal bootstrap interval, clipped; samples in which all distances are tied (infinite) are left out."""
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * float(np.std(resampled[np.isfinite(resampled)], ddof=1))
    low, high = within
    return Estimate(float(value), max(low, value - half), min(high, value + half))


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise OptionError(f"{name} = {value}", where=name, hint=f"give {wanted}")
