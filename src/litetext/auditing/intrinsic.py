"""Intrinsic dimension from the distances to nearest neighbors: TwoNN and maximum likelihood."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError, OptionError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_HELD = 2**23  # numbers held at a time: 64 MB of float64
_SPARE = 16  # candidates besides the k nearest, among which rounding may have changed the order


def neighbor_distances(points: npt.NDArray[Any], k: int, progress: Callable[[float], None] | None = None) -> Matrix:
    """Euclidean distances [N, k] of points [N, D] to their k nearest other points, ascending; a copy is at distance 0.

    Candidates are chosen by float64 products of the centred points; their distances are those of float64 differences,
    so that points which lie close together keep all their digits.

    Raises:
        OptionError: k is not in 1..N-1.
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
        differences = centred[rows][:, None] - centred[near]
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

    F is the empirical distribution i / N. The largest ratio has F = 1 and no logarithm, so it is always left out.

    Args:
        mu: [N], distance to the second neighbor over the distance to the first; 1 or more.
        discard: share 0..1 of the largest ratios to leave out.

    Raises:
        ArrayError: fewer than 2 ratios are left.
    """
    ratios = np.sort(np.asarray(mu, dtype=np.float64))
    kept = min(int(ratios.size * (1 - discard)), ratios.size - 1)
    if kept < 2:
        raise ArrayError(
            f"TwoNN has {max(kept, 0)} of {ratios.size} distance ratios left", hint="discard fewer or give more"
        )
    survival = -np.log1p(-np.arange(1, kept + 1) / ratios.size)
    return np.stack([np.log(ratios[:kept]), survival], axis=1)


def twonn(mu: npt.ArrayLike, discard: float) -> float:
    """Intrinsic dimension: slope of the line through the origin and `twonn_points`.

    Facco, d'Errico, Rodriguez & Laio 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", section "Methods".

    Raises:
        ArrayError: fewer than 2 ratios are left, or all of them are 1 (the dimension would be infinite).
    """
    fit = twonn_points(mu, discard)
    if not fit[:, 0].any():
        raise _tied()
    return slope_through_origin(fit[:, 0], fit[:, 1])


def inverse_dimensions(distances: Matrix, k: int) -> Vector:
    """Inverse of the local dimension at each point [N]: mean of log(T_k / T_j) over j = 1..k-1.

    Levina & Bickel 2004, "Maximum likelihood estimation of intrinsic dimension", equation 8.

    Args:
        distances: [N, at least k], distances T_j to the nearest neighbors, ascending, above 0.
        k: number of neighbors to use, 2 or more.
    """
    logs = np.log(distances[:, :k])
    return np.asarray(logs[:, -1] - logs[:, :-1].mean(axis=1))


def mle(distances: Matrix, k: int) -> float:
    """Intrinsic dimension by maximum likelihood: one over the mean of the `inverse_dimensions`.

    MacKay & Ghahramani 2005, "Comments on 'Maximum likelihood estimation of intrinsic dimension' by E. Levina and
    P. Bickel": the inverses are averaged, not the dimensions, which removes most of the bias at small k.

    Raises:
        ArrayError: every point has its neighbors at one distance (the dimension would be infinite).
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
    return ArrayError(
        "each point has its nearest neighbors at one and the same distance",
        hint="give rows that are not a regular grid",
    )
