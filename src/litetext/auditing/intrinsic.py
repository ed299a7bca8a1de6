"""Intrinsic dimension from distances to nearest neighbors: TwoNN and maximum likelihood, as pure functions."""

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


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
    """Intrinsic dimension by maximum likelihood: one over the mean of the inverse local dimensions.

    MacKay & Ghahramani 2005, "Comments on 'Maximum likelihood estimation of intrinsic dimension' by E. Levina and
    P. Bickel": the inverses are averaged, not the dimensions, which removes most of the bias at small k.

    Args:
        distances: [N, at least k], distances to the nearest neighbors, ascending, above 0.
        k: number of neighbors to use, 2 or more.

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
