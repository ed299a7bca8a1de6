"""Words in another order: which pairs, and that the scores are of the same pairs."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from litetext.micro.evaluation import compare_orders, shuffle_words, summarize
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.masks import Masks

PAIRS = list(make_pairs(3, 60, SceneOptions(size=64, split="test")))


class ReadsTheFirstWord:
    """A segmenter that finds everything, if the phrase begins as it was asked first."""

    def __init__(self) -> None:
        self.known = {pair.phrase.text for pair in PAIRS}

    def embed(self, image: Any) -> Any:
        return image

    def segment_embedding(self, image: Any, prompts: list[str]) -> list[Masks]:
        scene = next(pair.scene for pair in PAIRS if pair.scene.pixels is image)
        found = []
        for prompt in prompts:
            indices = {p.phrase.text: p.phrase.indices for p in PAIRS if p.scene is scene}.get(prompt, ())
            masks = np.array([scene.instances[index].mask for index in indices], dtype=np.bool_).reshape(-1, 64, 64)
            found.append(Masks(masks, np.zeros((len(masks), 4)), np.ones(len(masks)), prompt))
        return found


def test_only_phrases_with_another_order_are_asked_again() -> None:
    shuffled = shuffle_words(PAIRS, 0)
    assert 5 < len(shuffled) < len(PAIRS)
    for place, pair in shuffled.items():
        was = PAIRS[place].phrase
        assert pair.phrase.text != was.text
        assert sorted(pair.phrase.text.split()) == sorted(was.text.split())
        assert (pair.phrase.indices, pair.scene) == (was.indices, PAIRS[place].scene)
        assert not set(was.text.split()) & {"left", "right", "top", "bottom", "that"}
    assert shuffle_words(PAIRS, 0).keys() == shuffle_words(PAIRS, 1).keys()


def test_both_scores_are_of_the_same_pairs() -> None:
    segmenter: Any = ReadsTheFirstWord()
    perfect = summarize(PAIRS, [_count(segmenter, pair) for pair in PAIRS])
    assert perfect.overall.cgf1 == pytest.approx(100, abs=0.1)
    order = compare_orders(segmenter, PAIRS, perfect, 0)
    assert order is not None
    assert order.pairs == len(shuffle_words(PAIRS, 0))
    assert order.normal.cgf1 == pytest.approx(100, abs=0.5)
    assert order.shuffled.cgf1 == 0
    assert order.to_json()["cgf1_lost"] == order.lost == order.normal.cgf1
    one_word = [pair for pair in PAIRS if len(pair.phrase.text.split()) == 1]
    assert compare_orders(segmenter, one_word, perfect, 0) is None


def _count(segmenter: Any, pair: Any) -> Any:
    from litetext.evaluation.cgf1 import count_pair
    from litetext.micro.evaluation import overlaps

    (masks,) = segmenter.segment_embedding(pair.scene.pixels, [pair.phrase.text])
    return count_pair(overlaps(masks.masks, pair))
