"""The linear size of a cloud of points: mergeable moments, and ranks read from the spectrum of the covariance.

Everything here is about CENTERED data: the mean is taken off first (``outer / count`` of `StreamingMoments` is the
second moment about the origin).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class StreamingMoments:
    """Partial sums of rows: those of two disjoint sets of rows add up to those of their union.

    Sums about the origin lose digits when the mean is large beside the spread; take a common mean off the rows first.

    Args:
        count: number of rows.
        total: [D], the sum of the rows.
        outer: [D, D], the sum of the outer products of the rows with themselves.
    """

    count: int
    total: Vector
    outer: Matrix

    @classmethod
    def of(cls, rows: npt.NDArray[Any]) -> Self:
        """StreamingMoments of rows [N, D], accumulated in float64, a chunk of rows at a time."""
        width = rows.shape[1]
        total, outer = np.zeros(width), np.zeros((width, width))
        for start in range(0, len(rows), _CHUNK):
            chunk = np.asarray(rows[start : start + _CHUNK], dtype=np.float64)
            total += chunk.sum(axis=0)
            outer += chunk.T @ chunk
        return cls(len(rows), total, outer)

    def merge(self, other: "StreamingMoments") -> "StreamingMoments":
        """StreamingMoments of both sets of rows together.

        Raises:
            ArrayError: the rows have different widths.
        """
        if self.total.shape != other.total.shape:
            raise ArrayError(f"rows of {self.total.size} and of {other.total.size} numbers", hint="merge equal widths")
        return StreamingMoments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def covariance(self) -> Matrix:
        """Covariance [D, D] about the mean, divided by ``count``.

        Raises:
            ArrayError: there are no rows.
        """
        if not self.count:
            raise ArrayError("moments of no rows have no covariance", hint="give at least one row")
        mean = self.total / self.count
        return self.outer / self.count - np.outer(mean, mean)


@dataclass(frozen=True)
class SpectrumSizes:
    """Four ways to say how many directions a spectrum fills (see the functions of the same names)."""

    effective_rank: float
    rank_95: float
    rank_99: float
    participation_ratio: float


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


def spectrum_sizes(variances: Vector) -> SpectrumSizes:
    """All sizes of one spectrum: eigenvalues [D] of the covariance.

    Raises:
        ArrayError: no value is above zero.
    """
    return SpectrumSizes(
        effective_rank=effective_rank(np.sqrt(variances)),
        rank_95=linear_rank(variances, 0.95),
        rank_99=linear_rank(variances, 0.99),
        participation_ratio=participation_ratio(variances),
    )


def random_groups(rows: npt.NDArray[Any], groups: int, rng: np.random.Generator) -> list[StreamingMoments]:
    """StreamingMoments of random parts of rows [N, D] less their common mean: at most ``groups`` parts, none empty."""
    mean = rows.mean(axis=0, dtype=np.float64)
    parts = np.array_split(rng.permutation(len(rows)), min(groups, len(rows)))
    return [StreamingMoments.of(rows[part] - mean) for part in parts]


def resampled_sizes(groups: Sequence[StreamingMoments], resamples: int, rng: np.random.Generator) -> Matrix:
    """Sizes of bootstrap samples of groups of rows, drawn with replacement.

    The groups must be exchangeable (random parts of the rows). A sample without any spread (nothing but copies of one
    row) has no sizes and is left out.

    Args:
        groups: moments of each group.
        resamples: number of bootstrap samples.
        rng: where the draws come from.

    Returns:
        float64 [at most resamples, 4], the columns in the order of the fields of `SpectrumSizes`.
    """
    counts = np.array([group.count for group in groups], dtype=np.float64)
    totals = np.stack([group.total for group in groups])
    outers = np.stack([group.outer.ravel() for group in groups])
    width = totals.shape[1]
    sizes = []
    for weights in rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=resamples):
        drawn = weights.astype(np.float64)
        outer = (drawn @ outers).reshape(width, width)
        values = eigenvalues(StreamingMoments(int(drawn @ counts), drawn @ totals, outer).covariance())
        if values.any():
            sizes.append(astuple(spectrum_sizes(values)))
    return np.array(sizes, dtype=np.float64).reshape(-1, 4)


def _shares(values: npt.ArrayLike) -> Vector:
    """Values as parts of their sum.

    Raises:
        ArrayError: no value is above zero.
    """
    array = np.asarray(values, dtype=np.float64)
    total = array.sum()
    if not total > 0:
        raise ArrayError("a spectrum without any variance", hint="give rows that are not all the same")
    return np.asarray(array / total)
