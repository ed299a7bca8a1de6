"""The largest sum: against all permutations, and pair for pair what SciPy answers, equal sums included."""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from litetext.assignment import assign

Table = npt.NDArray[np.float64]
SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)
# Few different gains, so that many sums are equal; the lowest is what forbids a pair.
GAINS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1e6]), st.floats(0, 1))
TABLES = arrays(np.float64, SHAPES, elements=GAINS)


@given(gains=TABLES)
def test_no_other_choice_is_better(gains: Table) -> None:
    small = gains if gains.shape[0] <= gains.shape[1] else gains.T
    best = max(sum(small[row, column] for row, column in enumerate(one)) for one in choices(small))
    rows, columns = assign(gains)
    assert len(rows) == len(columns) == min(gains.shape)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows)
    assert sorted(rows.tolist()) == rows.tolist()
    assert gains[rows, columns].sum() == pytest.approx(best, rel=1e-9, abs=1e-9)


def choices(gains: Table) -> list[tuple[int, ...]]:
    return list(permutations(range(gains.shape[1]), gains.shape[0]))


@given(gains=TABLES)
def test_the_same_pairs_as_scipy(gains: Table) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    for ours, theirs in zip(assign(gains), optimize.linear_sum_assignment(gains, maximize=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_same_pairs_as_scipy_in_large_tables(kind: type[np.floating]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    generator = np.random.default_rng(0)
    for shape in ((60, 60), (20, 90), (90, 20)):
        # IoUs as a crowded picture has them: mostly 0, and the same ones several times.
        gains = (generator.random(shape).round(1) * (generator.random(shape) < 0.2)).astype(kind)
        for ours, theirs in zip(assign(gains), optimize.linear_sum_assignment(gains, maximize=True), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_nothing_to_assign() -> None:
    for shape in ((0, 0), (0, 3), (3, 0)):
        rows, columns = assign(np.zeros(shape))
        assert rows.shape == columns.shape == (0,)
        assert rows.dtype == np.intp
