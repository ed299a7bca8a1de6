import numpy as np
import pytest

from litetext.auditing.attenuation import attenuation_factors
from tests.auditing.injected import LAYERS, trace


def test_the_factor_is_the_geometric_mean_over_the_layers() -> None:
    path = trace([[[0.2, 0.2], [0.05, 0.2], [0.2, 0.2], [0.8, 0.2], [0.001, 0.2]]], [0])["student"]
    assert path.layers == pytest.approx(dict(zip(LAYERS, (0.05, 0.2, 0.8), strict=True)))
    assert path.factor is not None
    assert path.factor.value == pytest.approx((0.2**3 / (0.05 * 0.2 * 0.8)) ** (1 / 3))
    assert (path.features, path.masks, path.masks_factor, path.cosine) == pytest.approx((0.2, 0.001, 200, 0.9))


def test_two_tokens_by_hand() -> None:
    """Features that lose their second token: the weights 1/4 and 3/4 become 1/2 and 1/2."""
    left = 2 * (1 / 4) ** 2 / (1 / 16 + 9 / 16)  # 0.2
    assert attenuation_factors(np.array([[1.0], [left], [0.0]])) == pytest.approx([5.0])


def test_the_error_of_several_pairs_is_that_of_all_their_numbers_together() -> None:
    pairs = [np.full((5, 2), 0.01), np.full((5, 2), 1.0)]
    path = trace(pairs, [0, 0], sizes=[[99.0] * 5, [1.0] * 5])["noise"]
    assert path.features == pytest.approx((0.99 + 1.0) / 100)


def test_intervals_come_from_resampled_images() -> None:
    errors = np.random.default_rng(0).uniform(0.01, 0.03, 40)
    pairs = [[[0.2, 0.2], *([error, error] for _ in LAYERS), [0.2, 0.2]] for error in errors]
    found, again, other = (trace(pairs, np.arange(40) // 2, seed=seed)["student"].factor for seed in (1, 1, 2))
    assert found is not None
    assert found == again != other
    assert found.value == pytest.approx(0.2 / errors.mean())
    assert found.low < found.value < found.high
    # Of 20 means of two: the standard error of their mean, in relation to it, is that of the factor.
    spread = errors.reshape(20, 2).mean(axis=1).std() / np.sqrt(20) / errors.mean()
    assert (found.high - found.low) / found.value == pytest.approx(2 * 1.96 * spread, rel=0.15)
    alone = trace(pairs[:2], [0, 0])["student"].factor
    assert alone is not None
    assert alone.low == pytest.approx(alone.value) == alone.high


def test_without_an_error_there_is_no_factor() -> None:
    """The first error is none at all, the second is gone after the softmax of one layer."""
    paths = trace([[[0.0, 0.2], [0.0, 0.2], [0.0, 0.0], [0.0, 0.2], [0.0, 0.1]]], [0])
    assert paths["student"].factor is paths["noise"].factor is paths["student"].masks_factor is None
    assert paths["noise"].masks_factor == pytest.approx(2)
