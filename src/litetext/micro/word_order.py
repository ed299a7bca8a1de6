"""What becomes of a segmenter when the words of attribute phrases come in another order ("car red")."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from litetext.evaluation.cgf1 import CgF1
from litetext.micro.evaluation import MicroScores, Progress, evaluate_pairs, summarize
from litetext.micro.phrases import Pair
from litetext.prompts.permutations import permute
from litetext.sam3.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class OrderScores:
    """The same pairs with the words as they were, and in another order.

    Attributes:
        pairs: how many; those whose phrase may have another order (see `permute`).
        normal: as they were.
        shuffled: in another order.
    """

    pairs: int
    normal: CgF1
    shuffled: CgF1

    @property
    def lost(self) -> float:
        """Points of cgF1, 0 to 100."""
        return self.normal.cgf1 - self.shuffled.cgf1

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pairs": self.pairs,
            "normal": self.normal.to_json(),
            "shuffled": self.shuffled.to_json(),
            "cgf1_lost": self.lost,
        }


def shuffle_words(pairs: Sequence[Pair], seed: int) -> dict[int, Pair]:
    """The pairs whose phrase has another order of its content words, in such an order, by their place."""
    generator = np.random.default_rng(seed)
    texts = {place: permute(pair.phrase.text, generator) for place, pair in enumerate(pairs)}
    return {
        place: replace(pairs[place], phrase=replace(pairs[place].phrase, text=text))
        for place, text in texts.items()
        if text is not None
    }


def compare_orders(
    segmenter: Segmenter, pairs: Sequence[Pair], scores: MicroScores, seed: int, progress: Progress | None = None
) -> OrderScores | None:
    """Ask again with the words in another order; None if no phrase has one.

    Args:
        segmenter: what is evaluated.
        pairs: that were asked.
        scores: what came of them.
        seed: of the orders.
        progress: told of each picture.
    """
    shuffled = shuffle_words(pairs, seed)
    if not shuffled:
        return None
    normal = summarize(list(shuffled.values()), [scores.counts[place] for place in shuffled])
    return OrderScores(len(shuffled), normal.overall, evaluate_pairs(segmenter, shuffled.values(), progress).overall)
