"""Exact nearest neighbors by Euclidean distance, with plain matrix products.

A float32 product gives every squared distance with an error that has a proven bound. It is used only to leave out
points that cannot be among the nearest; the distances of the few that are left come from float64 differences. So
nothing is missed, and points that lie close together keep all their digits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError
from litetext.storage import fingerprint

Progress = Callable[[float], None]

_SCREEN = 2**24  # squared distances held at a time: 64 MB of float32
_PAIRS = 2**22  # numbers of candidate pairs held at a time: 32 MB of float64
_COLUMNS = 1024  # classes of columns whose minima stand for them


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest other points of each query.

    Args:
        distances: float64 [Q, k], Euclidean, smallest first.
        indices: int64 [Q, k], rows of the points; equal distances stand in the order of the rows.
    """

    distances: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Screen:
    """What the float32 product needs.

    Args:
        points: the points as given [N, D].
        columns: float32 [N, D + 1], centred, scaled points y and (1 + error) |y|^2.
        norms: float64 [N], |y|.
        error: bound e of the rounding error: |computed - true squared distance| <= e (|x|^2 + |y|^2).
    """

    points: npt.NDArray[Any]
    columns: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float64]
    error: float


def nearest(
    points: npt.NDArray[Any],
    k: int,
    queries: npt.NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Neighbors:
    """Find the k nearest other points of some of the points, exactly (to float64 rounding).

    A copy of a point is another point, at distance 0. Time grows with Q N D; memory is a float32 copy of the points and
    about 200 MB. Tight clusters that lie far apart (spread below 1e-3 of the distance between them) leave many
    candidates and make it slower, never wrong.

    Args:
        points: [N, D], finite, float32 or float64.
        k: how many neighbors, 1..N-1.
        queries: int64 [Q], rows whose neighbors are wanted; all of them when None.
        progress: called with the share done, 0..1.

    Raises:
        OptionError: k is not in 1..N-1.
    """
    if not 1 <= k < len(points):
        raise OptionError(f"{k} neighbors of {len(points)} points", where="k", hint=f"give 1..{len(points) - 1}")
    wanted = np.arange(len(points)) if queries is None else queries
    screen = _screen(points)
    distances = np.empty((len(wanted), k), dtype=np.float64)
    indices = np.empty((len(wanted), k), dtype=np.int64)
    step = max(1, _SCREEN // len(points))
    for start in range(0, len(wanted), step):
        part = slice(start, start + step)
        rows, columns = _candidates(screen, wanted[part], k)
        squared = _squared_distances(points, wanted[part][rows], columns)
        # Stable, and the columns of a row come in ascending order: ties stay in the order of the points.
        order = np.lexsort((squared, rows))
        first = np.searchsorted(rows, np.arange(len(wanted[part])))
        best = order[first[:, None] + np.arange(k)]
        distances[part], indices[part] = np.sqrt(squared[best]), columns[best]
        if progress:
            progress(min(1.0, (start + step) / len(wanted)))
    return Neighbors(distances, indices)


def distinct_rows(matrix: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Rows [M] of a matrix [N, D] that equal no earlier row, ascending; -0 equals 0."""
    first: dict[str, int] = {}
    for index, row in enumerate(matrix):
        first.setdefault(fingerprint([(row + 0.0).tobytes()]), index)
    return np.fromiter(first.values(), dtype=np.int64)


def _screen(points: npt.NDArray[Any]) -> _Screen:
    """Centre and scale the points (less cancellation, no overflow) and bound the rounding error of their products."""
    count, width = points.shape
    mean = points.mean(axis=0, dtype=np.float64)
    step = max(1, _PAIRS // width)
    parts = [slice(start, start + step) for start in range(0, count, step)]
    scale = max(float(np.abs(points[part] - mean).max()) for part in parts) * width**0.5 or 1.0
    # Rounding the points to float32 (2 units for the pair), the sum of D + 1 products in any order (D + 1 units, Higham
    # 2002, section 3.1) and storing the norm and the threshold (a few) amount to (D + 16) units of (|x| + |y|)^2 at
    # most, which is below 2 (|x|^2 + |y|^2); a unit of float32 is eps / 2.
    error = (width + 16) * float(np.finfo(np.float32).eps)
    columns = np.empty((count, width + 1), dtype=np.float32)
    norms = np.empty(count, dtype=np.float64)
    for part in parts:
        columns[part, :width] = (points[part] - mean) / scale
        rounded = columns[part, :width].astype(np.float64)
        norms[part] = np.sqrt(np.einsum("nd,nd->n", rounded, rounded))
        columns[part, width] = (1 + error) * norms[part] ** 2
    return _Screen(points, columns, norms, error)


def _candidates(
    screen: _Screen, queries: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs (place in ``queries``, row of the points) that hold the k nearest of every query, sorted by pair.

    With x the query, y a point and e the error, ``bounds`` = (1 + e) |y|^2 - 2 x y as computed is never below
    d^2(x, y) - (1 + e) |x|^2. The k-th smallest bound U therefore gives R^2 = U + (1 + e) |x|^2 >= d^2 of the k-th
    neighbor. A point within R has |y| <= |x| + R, and its bound is at most U + 2 e |x|^2 + 2 e (|x| + R)^2.
    """
    left = screen.columns[queries] * np.float32(-2)
    left[:, -1] = 1
    bounds: npt.NDArray[np.float32] = np.matmul(left, screen.columns.T)
    bounds[np.arange(len(queries)), queries] = np.inf
    upper = _kth_smallest(bounds, k)
    norms = screen.norms[queries]
    radius = np.sqrt(np.maximum(upper + (1 + screen.error) * norms**2, 0))
    # The last term is far above what underflow of float32 products can add up to.
    threshold = upper + 2 * screen.error * (norms**2 + (norms + radius) ** 2) + 1e-30
    rows, columns = np.nonzero(bounds <= threshold.astype(np.float32)[:, None])
    return rows, columns


def _kth_smallest(bounds: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float64]:
    """A number [Q] per row of bounds [Q, N] that at least k of its entries do not exceed, close to the k-th smallest.

    It is the k-th smallest among the minima of classes of columns (column modulo the number of classes): an entry
    each, so k of them are k entries. A minimum costs a tenth of a selection over all columns.
    """
    rows, count = bounds.shape
    classes = min(count, max(_COLUMNS, 16 * k))
    whole = count // classes * classes
    minima = bounds[:, :whole].reshape(rows, -1, classes).min(axis=1)
    rest = minima[:, : count - whole]
    np.minimum(rest, bounds[:, whole:], out=rest)
    return np.partition(minima, k - 1, axis=1)[:, k - 1].astype(np.float64)


def _squared_distances(
    points: npt.NDArray[Any], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Squared distances [P] between the points [N, D] at rows ``left`` [P] and ``right`` [P], in float64."""
    squared = np.empty(len(left), dtype=np.float64)
    step = max(1, _PAIRS // points.shape[1])
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        difference = np.subtract(points[left[part]], points[right[part]], dtype=np.float64)
        squared[part] = np.einsum("pd,pd->p", difference, difference)
    return squared
