"""The size of a cloud of points: linear, from the spectrum of its covariance; intrinsic, from nearest neighbors.

An `ArrayError` is raised where a size is undefined: no variance, distances that are all the same, too few ratios.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError, OptionError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

SIZES = ("effective_rank", "rank_95", "rank_99", "participation_ratio")
"""What `spectrum_sizes` gives, in this order."""
_HELD = 2**23  # numbers held at a time: 64 MB of float64
_SPARE = 16  # candidates besides the k nearest, among which rounding may have changed the order


def spectrum_of(rows: npt.NDArray[Any], groups: int, resamples: int, rng: np.random.Generator) -> tuple[Vector, Matrix]:
    """Eigenvalues of the covariance of rows, and the `SIZES` of bootstrap samples of them.

    Random groups of rows are drawn with replacement, not single rows. A sample without any spread (nothing but copies
    of one row) has no sizes and is left out. From rows [N, D] come eigenvalues [D], largest first, and sizes
    [at most resamples, 4].
    """
    mean = rows.mean(axis=0, dtype=np.float64)  # sums about the origin would lose digits where it is large
    parts = np.array_split(rng.permutation(len(rows)), min(groups, len(rows)))
    counts = np.array([len(part) for part in parts], dtype=np.float64)
    sums, products = np.empty((len(parts), mean.size)), np.empty((len(parts), mean.size**2))
    for index, part in enumerate(parts):
        centred = rows[part] - mean
        sums[index], products[index] = centred.sum(axis=0), (centred.T @ centred).ravel()

    def eigenvalues_of(weights: Vector) -> Vector:
        count, total = weights @ counts, weights @ sums
        second = (weights @ products).reshape(mean.size, mean.size)
        return eigenvalues(second / count - np.outer(total, total) / count**2)

    draws = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=resamples)
    sampled = (eigenvalues_of(weights.astype(np.float64)) for weights in draws)
    sizes = [spectrum_sizes(values) for values in sampled if values.any()]
    return eigenvalues_of(np.ones(len(parts))), np.array(sizes, dtype=np.float64).reshape(-1, len(SIZES))


def eigenvalues(covariance: Matrix) -> Vector:
    """Eigenvalues [D] of a covariance [D, D], largest first; those below rounding error are zero."""
    values = np.linalg.eigvalsh(covariance)[::-1]
    noise = values.size * np.finfo(np.float64).eps * np.abs(values).max(initial=0.0)
    return np.where(values > noise, values, 0.0)


def effective_rank(singular: npt.ArrayLike) -> float:
    """Exponential of the Shannon entropy of the singular values [D], divided by their sum.

    Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1. It is D for equal
    values and 1 for a single one. The singular values of centred rows are the roots of the eigenvalues of their
    covariance, up to a factor that does not matter here.
    """
    shares = _shares(singular)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def linear_rank(variances: npt.ArrayLike, share: float) -> int:
    """Smallest number of principal directions that carry at least ``share`` (0..1) of the variances [D]."""
    reached = np.cumsum(np.sort(_shares(variances))[::-1])
    # A sum that is short of the share by rounding only has reached it.
    return min(int(np.searchsorted(reached, share - 1e-12)) + 1, reached.size)


def participation_ratio(variances: npt.ArrayLike) -> float:
    """Square of the sum of the eigenvalues of the covariance [D], divided by the sum of their squares.

    Gao et al. 2017, "A theory of multineuronal dimensionality, dynamics and measurement", equation 5.
    """
    return float(1 / np.square(_shares(variances)).sum())


def spectrum_sizes(variances: Vector) -> tuple[float, float, float, float]:
    """The `SIZES` of a spectrum: eigenvalues [D] of the covariance."""
    return (
        effective_rank(np.sqrt(variances)),
        linear_rank(variances, 0.95),
        linear_rank(variances, 0.99),
        participation_ratio(variances),
    )


def _shares(values: npt.ArrayLike) -> Vector:
    """Values as parts of their sum."""
    array = np.asarray(values, dtype=np.float64)
    total = array.sum()
    if not total > 0:
        raise ArrayError("a spectrum without any variance", hint="give rows that are not all the same")
    return np.asarray(array / total)


def neighbor_distances(points: npt.NDArray[Any], k: int, progress: Callable[[float], None] | None = None) -> Matrix:
    """Euclidean distances [N, k] of points [N, D] to their k nearest other points, ascending; a copy is at distance 0.

    Candidates are chosen by float64 products of the centred points; their distances are those of float64 differences,
    so that points which lie close together keep all their digits. Of more than k + 16 points within 1e-8 of the cloud's
    size any may be taken for the nearest.
    """
    count, width = points.shape
    if not 1 <= k < count:
        raise OptionError(f"{k} neighbors of {count} points", where="k", hint=f"give 1..{count - 1}")
    centred = points - points.mean(axis=0, dtype=np.float64)
    norms = np.einsum("nd,nd->n", centred, centred)
    candidates = min(k + _SPARE, count - 1)
    distances = np.empty((count, k))
    step = max(1, _HELD // max(count, candidates * width))
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        squared = norms - 2 * (centred[rows] @ centred.T)  # less the row's own norm, which changes no order
        squared[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(squared, candidates - 1, axis=1)[:, :candidates]
        differences = np.subtract(points[rows][:, None], points[near], dtype=np.float64)
        exact = np.sqrt(np.einsum("qkd,qkd->qk", differences, differences))
        distances[rows] = np.sort(exact, axis=1)[:, :k]
        if progress:
            progress(min(1.0, (start + step) / count))
    return distances


def distinct_rows(matrix: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Rows [M] of a matrix [N, D] that equal no earlier row, ascending; -0 equals 0."""
    first: dict[bytes, int] = {}
    for index, row in enumerate(matrix + 0.0):
        first.setdefault(row.tobytes(), index)
    return np.fromiter(first.values(), dtype=np.int64)


def twonn_points(mu: npt.ArrayLike, discard: float) -> Matrix:
    """Points [M, 2] of the TwoNN fit: log mu and -log(1 - F(mu)), ascending.

    mu [N] are distances to the second neighbor over those to the first; F is their empirical distribution i / N. The
    share ``discard`` of the largest is left out, and always the largest, which has F = 1 and no logarithm.
    """
    ratios = np.sort(np.asarray(mu, dtype=np.float64))
    kept = min(int(ratios.size * (1 - discard)), ratios.size - 1)
    if kept < 2:
        what = f"TwoNN has {max(kept, 0)} of {ratios.size} distance ratios left"
        raise ArrayError(what, hint="discard fewer or give more")
    survival = -np.log1p(-np.arange(1, kept + 1) / ratios.size)
    return np.stack([np.log(ratios[:kept]), survival], axis=1)


def twonn(mu: npt.ArrayLike, discard: float) -> float:
    """Intrinsic dimension: slope of the line through the origin and `twonn_points`.

    Facco, d'Errico, Rodriguez & Laio 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", section "Methods".
    """
    fit = twonn_points(mu, discard)
    if not fit[:, 0].any():
        raise _tied()
    return slope_through_origin(fit[:, 0], fit[:, 1])


def inverse_dimensions(distances: Matrix, k: int) -> Vector:
    """Inverse of the local dimension at each point [N]: mean of log(T_k / T_j) over j = 1..k-1.

    Levina & Bickel 2004, "Maximum likelihood estimation of intrinsic dimension", equation 8. The distances T_j to the
    nearest neighbors, [N, at least k], ascend from above 0; k is 2 or more.
    """
    logs = np.log(distances[:, :k])
    return np.asarray(logs[:, -1] - logs[:, :-1].mean(axis=1))


def mle(distances: Matrix, k: int) -> float:
    """Intrinsic dimension by maximum likelihood: one over the mean of the `inverse_dimensions`.

    MacKay & Ghahramani 2005, "Comments on 'Maximum likelihood estimation of intrinsic dimension' by E. Levina and
    P. Bickel": the inverses are averaged, not the dimensions, which removes most of the bias at small k.
    """
    inverse = float(inverse_dimensions(distances, k).mean())
    if not inverse > 0:
        raise _tied()
    return 1 / inverse


def slope_through_origin(x: Vector, y: Vector) -> float:
    """Slope of the least squares line through the origin; infinite when every x is 0."""
    squares = float(x @ x)
    return float(x @ y) / squares if squares else float("inf")


def _tied() -> ArrayError:
    what = "each point has its nearest neighbors at one and the same distance"
    return ArrayError(what, hint="give rows that are not a regular grid")
