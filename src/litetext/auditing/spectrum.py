"""The linear size of a cloud of points: ranks read from the spectrum of the covariance of centred rows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

SIZES = ("effective_rank", "rank_95", "rank_99", "participation_ratio")
"""What `spectrum_sizes` gives, in this order."""


def spectrum_of(rows: npt.NDArray[Any], groups: int, resamples: int, rng: np.random.Generator) -> tuple[Vector, Matrix]:
    """Eigenvalues of the covariance of rows, and the `SIZES` of bootstrap samples of them.

    Random groups of rows are drawn with replacement, not single rows. A sample without any spread (nothing but copies
    of one row) has no sizes and is left out.

    Args:
        rows: [N, D].
        groups: how many groups the rows are parted into, if there are as many rows.
        resamples: number of bootstrap samples.
        rng: where the draws come from.

    Returns:
        The eigenvalues [D], largest first, and the sizes [at most resamples, 4].
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

    Raises:
        ArrayError: no value is above zero.
    """
    shares = _shares(singular)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def linear_rank(variances: npt.ArrayLike, share: float) -> int:
    """Smallest number of principal directions that carry at least ``share`` (0..1) of the variance.

    Args:
        variances: [D], eigenvalues of the covariance, in any order.
        share: part of the variance to reach, for example 0.95.

    Raises:
        ArrayError: no value is above zero.
    """
    reached = np.cumsum(np.sort(_shares(variances))[::-1])
    # A sum that is short of the share by rounding only has reached it.
    return min(int(np.searchsorted(reached, share - 1e-12)) + 1, reached.size)


def participation_ratio(variances: npt.ArrayLike) -> float:
    """Square of the sum of the eigenvalues of the covariance [D], divided by the sum of their squares.

    Gao et al. 2017, "A theory of multineuronal dimensionality, dynamics and measurement", equation 5.

    Raises:
        ArrayError: no value is above zero.
    """
    return float(1 / np.square(_shares(variances)).sum())


def spectrum_sizes(variances: Vector) -> tuple[float, float, float, float]:
    """The `SIZES` of a spectrum: eigenvalues [D] of the covariance.

    Raises:
        ArrayError: no value is above zero.
    """
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
