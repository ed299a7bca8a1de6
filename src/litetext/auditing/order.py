"""Order: how far the features of a phrase move when its content words change places.

A phrase is compared with permutations of its content words by the cosine of their pooled features, and this with the
cosine of unrelated phrases, since even those are rarely at 0. An encoder that reads a bag of words does not move.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.features.compare import row_cosines
from litetext.features.encode import pooled_features
from litetext.features.protocol import Progress, TextEncoder
from litetext.prompts.words import (
    arrangements,
    content_positions,
    is_word,
    permute_content,
    relation_positions,
    split_words,
)

Vector = npt.NDArray[np.float64]

LENGTHS = (2, 3, 4, 5)  # words; the last stands for all longer phrases too
_EXHAUSTIVE = 3  # content words of which every order is measured: 5 besides the given one
_PERMUTATIONS = 4  # of a longer phrase
_PARTNERS = 32  # phrases that are tried as unrelated to one phrase


@dataclass(frozen=True)
class OrderStats:
    """What the order of words means to an encoder. The cosine of a phrase is the mean over its permutations.

    A group of phrases is ``{"prompts": how many, "cosine": mean over them}``; figures over no phrases are None.
    """

    encoder: str  # its name
    texts: int  # all that were given
    single: int  # texts of fewer than two words; left out
    fixed: int  # texts of two or more words without another order of their content words; left out
    sampled: int  # phrases measured, of those that are left
    permutations: int  # permutations measured
    cosine: float | None  # mean cosine over the phrases
    cosine_p5: float | None  # 5th percentile of the cosine over the phrases
    cosine_min: float | None  # cosine of the phrase that moves most
    # groups of the phrases of 2, 3, 4, and 5 or more words, function words counted
    by_length: Mapping[str, Mapping[str, float | None]]
    # group of the phrases with a relation such as "left of", whose meaning changes with the order
    relational: Mapping[str, float | None]
    plain: Mapping[str, float | None]  # group of the phrases without
    pairs: int  # pairs of unrelated phrases: random ones that share no content word
    baseline: float | None  # mean cosine of these pairs
    # (1 - cosine) / (1 - baseline). 0: a bag of words; 1: a permutation is as far away as an unrelated phrase. None
    # without a baseline below 1
    sensitivity: float | None

    def to_json(self) -> dict[str, Any]:
        """Fields as plain finite numbers, None where a figure is undefined."""
        return asdict(self)


def measure_order(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    sample: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> OrderStats:
    """Compare phrases with permutations of their content words, and with unrelated phrases.

    At most ``sample`` of the texts, which are distinct, are measured; those that cannot change their order are left
    out. Of a phrase of four or more content words 4 permutations are measured, of a shorter one all.
    """
    generator = np.random.default_rng(seed)
    phrases = [split_words(text) for text in texts]
    lengths = np.array([sum(map(is_word, words)) for words in phrases], dtype=np.int64)
    contents = [[words[position] for position in content_positions(words)] for words in phrases]
    movable = [row for row, content in enumerate(contents) if lengths[row] >= 2 and arrangements(content) > 1]
    drawn = generator.choice(len(movable), min(sample, len(movable)), replace=False)
    rows = [movable[index] for index in np.sort(drawn)]
    short = math.factorial(_EXHAUSTIVE) - 1
    limits = [short if len(contents[row]) <= _EXHAUSTIVE else _PERMUTATIONS for row in rows]
    permuted = [permute_content(phrases[row], generator, limit) for row, limit in zip(rows, limits, strict=True)]
    pairs = unrelated_pairs([frozenset(contents[row]) for row in rows], generator)
    # The phrase is put together from its words like its permutations, so that white space cannot tell them apart.
    lines = [" ".join(words) for words in chain((phrases[row] for row in rows), *permuted)]
    features = pooled_features(encoder, lines, progress=progress)
    owners = np.repeat(np.arange(len(rows)), np.array([len(orders) for orders in permuted], dtype=np.int64))
    moved = row_cosines(features[owners], features[len(rows) :])
    cosines = np.bincount(owners, moved, len(rows)) / np.bincount(owners, minlength=len(rows))
    baseline = _mean(row_cosines(features[pairs[:, 0]], features[pairs[:, 1]]))
    relational = np.array([bool(relation_positions(phrases[row])) for row in rows], dtype=bool)
    return OrderStats(
        encoder=encoder.name,
        texts=len(texts),
        single=int((lengths < 2).sum()),
        fixed=int((lengths >= 2).sum()) - len(movable),
        sampled=len(rows),
        permutations=len(moved),
        cosine=_mean(cosines),
        cosine_p5=float(np.percentile(cosines, 5)) if rows else None,
        cosine_min=float(cosines.min()) if rows else None,
        by_length=group_by_length(lengths[rows], cosines),
        relational=_group(cosines[relational]),
        plain=_group(cosines[~relational]),
        pairs=len(pairs),
        baseline=baseline,
        sensitivity=order_sensitivity(_mean(cosines), baseline),
    )


def unrelated_pairs(contents: Sequence[frozenset[str]], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows [P, 2] of random pairs of phrases that share no content word: one for each phrase if a few draws find it."""
    pairs = []
    for row, content in enumerate(contents):
        partners = generator.choice(len(contents), min(_PARTNERS, len(contents)), replace=False)
        partner = next((index for index in partners if content.isdisjoint(contents[index])), None)
        if partner is not None:
            pairs.append((row, partner))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def group_by_length(lengths: npt.NDArray[np.int64], cosines: Vector) -> dict[str, dict[str, float | None]]:
    """The cosines [N] of phrases of 2, 3, 4, and 5 or more words, from the N numbers of words: a group for each."""
    shown = np.minimum(lengths, LENGTHS[-1])
    return {f"{n}+" if n == LENGTHS[-1] else str(n): _group(cosines[shown == n]) for n in LENGTHS}


def order_sensitivity(permuted: float | None, baseline: float | None) -> float | None:
    """(1 - permuted) / (1 - baseline), from two mean cosines; None where it is undefined."""
    if permuted is None or baseline is None or math.isclose(baseline, 1.0, abs_tol=1e-6):
        return None
    return (1.0 - permuted) / (1.0 - baseline)


def _group(cosines: Vector) -> dict[str, float | None]:
    return {"prompts": len(cosines), "cosine": _mean(cosines)}


def _mean(values: Vector) -> float | None:
    return float(values.mean()) if values.size else None
