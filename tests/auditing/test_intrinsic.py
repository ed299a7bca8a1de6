"""Both estimators of intrinsic dimension give known answers on distances made by hand."""

import numpy as np
import pytest

from litetext.auditing.intrinsic import inverse_dimensions, mle, twonn, twonn_points
from litetext.errors import ArrayError


def test_twonn_of_exact_pareto_quantiles_is_exact() -> None:
    places = np.arange(1, 1001) / 1000
    ratios = (1 - places[:-1]) ** (-1 / 7)
    assert twonn([*ratios, 1e9], 0.1) == pytest.approx(7, rel=1e-12)
    assert twonn([*ratios, 1e9], 0.0) == pytest.approx(7, rel=1e-12)
    assert len(twonn_points(ratios, 0.25)) == 749


def test_mle_of_known_distances_is_exact() -> None:
    # log(T_4 / T_j) = 3/5, 2/5, 1/5 has the mean 2/5; the second point has the mean 3/5.
    distances = np.exp(np.array([[0, 1, 2, 3], [0, 0, 0, 3]]) / 5)
    np.testing.assert_allclose(inverse_dimensions(distances, 4), [2 / 5, 3 / 5])
    assert mle(distances, 4) == pytest.approx(2)


def test_tied_neighbors_have_no_dimension() -> None:
    with pytest.raises(ArrayError, match="one and the same distance"):
        mle(np.ones((5, 3)), 3)
    with pytest.raises(ArrayError, match="one and the same distance"):
        twonn(np.ones(10), 0.1)
