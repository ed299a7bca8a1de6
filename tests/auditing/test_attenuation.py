import json

import numpy as np
import pytest

from litetext.auditing.attenuation import (
    DEFINITIONS,
    FEATURES,
    OURS,
    Comparison,
    attenuation,
    centred,
    trace_errors,
)
from litetext.errors import ArrayError
from litetext.storage import to_json
from tests.auditing.injected import LAYERS, of_size, pair_of, some_attenuation


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_errors_by_hand() -> None:
    """Nothing changed; one number gone; twice as much."""
    found = Comparison.of(np.array([3.0, 4.0]), np.array([[3.0, 4.0], [0.0, 4.0], [6.0, 8.0]]))
    both = Comparison.stack([found])
    assert both.relative.tolist() == [0, 9 / 25, 1]
    assert both.mean_squared.tolist() == [0, 9 / 2, 25 / 2]
    assert both.cosine_distance == pytest.approx([0, 1 - 4 / 5, 0])


def test_the_error_of_several_arrays_is_that_of_all_their_numbers_together() -> None:
    large, small = of_size([0.01], size=99.0), of_size([1.0], size=1.0)
    assert Comparison.stack([large, small]).relative == pytest.approx([(0.99 + 1.0) / 100])
    assert Comparison.stack([large, small]).take(np.array([1, 1])).relative == pytest.approx([1.0])


def test_what_is_compared_has_one_shape() -> None:
    with pytest.raises(ArrayError, match=r"changed arrays \[2, 3\] of a reference \[2\]"):
        Comparison.of(np.zeros(2), np.zeros((2, 3)))


def test_a_softmax_does_not_see_what_all_keys_have_in_common() -> None:
    rng = np.random.default_rng(0)
    queries, keys, shift = rng.normal(size=(5, 4)), rng.normal(size=(3, 4)), rng.normal(size=4)
    logits, changed = queries @ keys.T, queries @ (keys + shift).T
    for equal in (keys, np.repeat(keys[:1], 3, axis=0)):
        weights = softmax(queries @ equal.T)
        moved = softmax(queries @ (equal + shift).T)
        assert Comparison.stack([Comparison.of(weights, moved[None])]).relative == pytest.approx([0], abs=1e-25)
    assert Comparison.stack([Comparison.of(logits, changed[None])]).relative[0] > 0.1
    assert np.allclose(centred(logits), centred(changed))


def test_two_tokens_by_hand() -> None:
    """Features that lose their second token: the weights 1/4 and 3/4 become 1/2 and 1/2."""
    features = np.array([[0.0], [np.log(3)]])
    before, after = softmax(features.T), softmax(np.zeros((1, 2)))
    assert before == pytest.approx(np.array([[0.25, 0.75]]))
    injected = Comparison.stack([Comparison.of(features, np.zeros((1, 2, 1)))]).relative
    left = Comparison.stack([Comparison.of(before, after[None])]).relative
    assert injected == pytest.approx([1.0])
    assert left == pytest.approx([2 * (1 / 4) ** 2 / (1 / 16 + 9 / 16)])  # 0.2
    assert attenuation(injected, left) == pytest.approx([5.0])


def test_the_factor_is_the_geometric_mean_over_the_layers() -> None:
    rest = {("encoder.0", "weights"): [0.05], ("decoder.0", "weights"): [0.2], ("masks", "weights"): [0.8]}
    path = trace_errors([pair_of(0, [0.2], rest)], ["student"], seed=0)["student"]
    assert [layer.factor for layer in path.layers] == pytest.approx([4, 1, 1 / 4])
    assert [layer.layer for layer in path.layers] == list(LAYERS)
    assert path.factor is not None
    assert path.factor.value == pytest.approx(1)
    assert (path.features, path.cosine) == pytest.approx((0.2, 0.9))


def test_each_definition_reads_its_own_places() -> None:
    rest = {
        ("encoder.0", "weights"): [0.05],
        ("decoder.0", "weights"): [0.1],
        ("masks", "weights"): [0.4],
        **{(layer, "logits_centred"): [0.6] for layer in LAYERS},
        **{(layer, "weights_centred"): [0.8] for layer in LAYERS},
        **{(layer, "output"): [0.02] for layer in LAYERS},
        **{(layer, "layer_output"): [0.01] for layer in LAYERS},
        ("result", "masks"): [0.001],
    }
    path = trace_errors([pair_of(0, [0.2], rest)], ["student"], seed=0)["student"]
    weights = (0.05 * 0.1 * 0.4) ** (1 / 3)
    assert path.definitions == pytest.approx(
        {
            "weights": 0.2 / weights,
            "weights_decoder": 2,
            "weights_centred": 1 / 4,
            "softmax": 0.6 / weights,
            # Changed at right angles the cosine is 1 / sqrt(1 + error).
            "weights_cosine": (1 - 1.2**-0.5) / np.prod([1 - (1 + e) ** -0.5 for e in (0.05, 0.1, 0.4)]) ** (1 / 3),
            "weights_mean_squared": 0.2 / weights,
            "output": 10,
            "layer_output": 20,
            "masks": 200,
        }
    )


def test_only_the_mean_squared_error_depends_on_the_unit() -> None:
    pair = pair_of(0, [0.2], {})
    tenfold = Comparison.stack([of_size([0.2], size=100.0)])
    found = {key: Comparison.stack([one]) for key, one in pair.comparisons.items()} | {FEATURES: tenfold}
    for name, definition in DEFINITIONS.items():
        expected = 100 if name == "weights_mean_squared" else 1
        assert definition.factors(found) == pytest.approx([expected])


def test_intervals_come_from_resampled_images() -> None:
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.01, 0.03, 40)
    pairs = [
        pair_of(index // 2, [0.2], {(layer, "weights"): [error] for layer in LAYERS})
        for index, error in enumerate(errors)
    ]
    found, again, other = (trace_errors(pairs, ["student"], seed)["student"].factor for seed in (1, 1, 2))
    assert found is not None
    assert found == again != other
    assert found.value == pytest.approx(0.2 / errors.mean())
    assert found.low < found.value < found.high
    # Of 20 means of two: the standard error of their mean, in relation to it, is that of the factor.
    spread = errors.reshape(20, 2).mean(axis=1).std() / np.sqrt(20) / errors.mean()
    assert (found.high - found.low) / found.value == pytest.approx(2 * 1.96 * spread, rel=0.15)
    alone = trace_errors(pairs[:2], ["student"], seed=0)["student"].factor
    assert alone is not None
    assert alone.low == alone.value == alone.high


def test_without_an_error_there_is_no_factor() -> None:
    """The first error is none at all, the second is gone after the softmax of one layer."""
    rest = {("decoder.0", "weights"): [0.0, 0.0]}
    paths = trace_errors([pair_of(0, [0.0, 0.2], rest)], ["none", "some"], seed=0)
    assert paths["none"].factor is paths["some"].factor is None
    assert set(paths["none"].definitions.values()) == {None}
    assert paths["some"].definitions["masks"] == 1
    assert [layer.factor for layer in paths["some"].layers] == [1, None, 1]


def test_plain_values() -> None:
    stats = some_attenuation()
    told = json.loads(to_json(stats.to_json()))
    assert told["errors"]["student"]["factor"]["value"] == pytest.approx(10)
    assert told["errors"]["noise"]["definitions"]["masks"] == pytest.approx(20)
    assert told["errors"]["student"]["definitions"][OURS] == told["errors"]["student"]["factor"]["value"]
    assert told["errors"]["shuffled"]["layers"][0]["errors"]["weights"] == pytest.approx(0.02)
    assert told["pairs"] == 3
