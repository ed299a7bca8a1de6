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

from litetext.errors import OptionError
from litetext.features.protocol import Progress, TextEncoder, pooled_features
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
_PARTNERS = 32  # phrases that are tried as unrelated to one phrase


@dataclass(frozen=True)
class OrderOptions:
    """How much to measure.

    Args:
        permutations: orders measured of a phrase of four or more content words; of a shorter one all, at most five.
        sample: phrases measured at most, drawn by the seed.
        seed: seed of the sample, the permutations and the unrelated pairs.
        batch_size: texts encoded at once.

    Raises:
        OptionError: a value makes no sense.
    """

    permutations: int = 4
    sample: int = 2000
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name, least in (("permutations", 1), ("sample", 1), ("seed", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value < least:
                raise OptionError(f"{name} = {value}", hint=f"give {least} or more")


@dataclass(frozen=True)
class OrderGroup:
    """Some of the measured phrases.

    Attributes:
        prompts: how many.
        cosine: mean over them; None where there are none.
    """

    prompts: int
    cosine: float | None


@dataclass(frozen=True)
class OrderStats:
    """What the order of words means to an encoder. The cosine of a phrase is the mean over its permutations.

    Attributes:
        encoder: its name.
        texts: number of texts given.
        single: texts of fewer than two words; left out.
        fixed: texts of two or more words without another order of their content words; left out.
        sampled: phrases measured, of those that are left.
        permutations: permutations measured.
        cosine: mean cosine over the phrases; None where there are none, like the next two.
        cosine_p5: 5th percentile of the cosine over the phrases.
        cosine_min: cosine of the phrase that moves most.
        by_length: the phrases of 2, 3, 4, and 5 or more words, function words counted.
        relational: the phrases with a relation such as "left of", whose meaning changes with the order.
        plain: the phrases without.
        pairs: pairs of unrelated phrases: random ones that share no content word.
        baseline: mean cosine of these pairs; None where there are none.
        sensitivity: (1 - cosine) / (1 - baseline). 0: a bag of words; 1: a permutation is as far away as an unrelated
            phrase. None without a baseline below 1.
    """

    encoder: str
    texts: int
    single: int
    fixed: int
    sampled: int
    permutations: int
    cosine: float | None
    cosine_p5: float | None
    cosine_min: float | None
    by_length: Mapping[str, OrderGroup]
    relational: OrderGroup
    plain: OrderGroup
    pairs: int
    baseline: float | None
    sensitivity: float | None

    def to_json(self) -> dict[str, Any]:
        """Fields as plain finite numbers, None where a figure is undefined."""
        return asdict(self)


@dataclass(frozen=True)
class Phrase:
    """A text taken apart.

    Attributes:
        words: words and punctuation, as `split_words` gives them.
        length: number of words, punctuation not counted.
        content: the content words.
        relational: whether it holds a relation such as "left of".
    """

    words: tuple[str, ...]
    length: int
    content: tuple[str, ...]
    relational: bool

    @classmethod
    def read(cls, text: str) -> "Phrase":
        """Take a text apart."""
        words = split_words(text)
        content = tuple(words[position] for position in content_positions(words))
        return cls(tuple(words), sum(map(is_word, words)), content, bool(relation_positions(words)))


def measure_order(
    encoder: TextEncoder, texts: Sequence[str], options: OrderOptions, progress: Progress | None = None
) -> OrderStats:
    """Compare phrases with permutations of their content words, and with unrelated phrases.

    Args:
        encoder: what to measure.
        texts: distinct prompts; those that cannot change their order are counted and left out.
        options: how much to measure.
        progress: called with the share done, 0..1.

    Raises:
        EncoderError: the encoder fails, or gives features that are not finite.
    """
    generator = np.random.default_rng(options.seed)
    phrases = [Phrase.read(text) for text in texts]
    longer = [phrase for phrase in phrases if phrase.length >= 2]
    movable = [phrase for phrase in longer if arrangements(phrase.content) > 1]
    drawn = generator.choice(len(movable), min(options.sample, len(movable)), replace=False)
    chosen = [movable[index] for index in np.sort(drawn)]
    permuted = [permute_content(phrase.words, generator, _limit(phrase, options)) for phrase in chosen]
    pairs = unrelated_pairs([frozenset(phrase.content) for phrase in chosen], generator)
    # The phrase is put together from its words like its permutations, so that white space cannot tell them apart.
    lines = [" ".join(words) for words in chain((phrase.words for phrase in chosen), *permuted)]
    features = pooled_features(encoder, lines, options.batch_size, progress)
    owners = np.repeat(np.arange(len(chosen)), np.array([len(orders) for orders in permuted], dtype=np.int64))
    moved = row_cosines(features[owners], features[len(chosen) :])
    cosines = np.bincount(owners, moved, len(chosen)) / np.bincount(owners, minlength=len(chosen))
    baseline = row_cosines(features[pairs[:, 0]], features[pairs[:, 1]])
    relational = np.array([phrase.relational for phrase in chosen], dtype=bool)
    return OrderStats(
        encoder=encoder.name,
        texts=len(texts),
        single=len(texts) - len(longer),
        fixed=len(longer) - len(movable),
        sampled=len(chosen),
        permutations=len(moved),
        cosine=_mean(cosines),
        cosine_p5=float(np.percentile(cosines, 5)) if chosen else None,
        cosine_min=float(cosines.min()) if chosen else None,
        by_length=group_by_length([phrase.length for phrase in chosen], cosines),
        relational=_group(cosines[relational]),
        plain=_group(cosines[~relational]),
        pairs=len(pairs),
        baseline=_mean(baseline),
        sensitivity=order_sensitivity(_mean(cosines), _mean(baseline)),
    )


def row_cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> Vector:
    """Cosine of each row of ``left`` [N, D] with the same row of ``right`` [N, D]: [N], 0 where a row is all zeros."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Vector = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return np.clip(cosines, -1.0, 1.0)


def unrelated_pairs(contents: Sequence[frozenset[str]], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows [P, 2] of random pairs of phrases that share no content word: one for each phrase, if a few draws find it.

    Args:
        contents: the content words of each phrase.
        generator: source of randomness.
    """
    pairs = []
    for row, content in enumerate(contents):
        partners = generator.choice(len(contents), min(_PARTNERS, len(contents)), replace=False)
        partner = next((other for other in partners if content.isdisjoint(contents[other])), None)
        if partner is not None:
            pairs.append((row, partner))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def group_by_length(lengths: Sequence[int], cosines: Vector) -> dict[str, OrderGroup]:
    """The cosines [N] of phrases of 2, 3, 4, and 5 or more words, from the N numbers of words: a group for each."""
    shown = np.minimum(np.array(lengths, dtype=np.int64), LENGTHS[-1])
    return {f"{n}+" if n == LENGTHS[-1] else str(n): _group(cosines[shown == n]) for n in LENGTHS}


def order_sensitivity(permuted: float | None, baseline: float | None) -> float | None:
    """(1 - permuted) / (1 - baseline), from two mean cosines; None where it is undefined."""
    if permuted is None or baseline is None or math.isclose(baseline, 1.0, abs_tol=1e-6):
        return None
    return (1.0 - permuted) / (1.0 - baseline)


def _limit(phrase: Phrase, options: OrderOptions) -> int:
    short = len(phrase.content) <= _EXHAUSTIVE
    return math.factorial(_EXHAUSTIVE) - 1 if short else options.permutations


def _group(cosines: Vector) -> OrderGroup:
    return OrderGroup(len(cosines), _mean(cosines))


def _mean(values: Vector) -> float | None:
    return float(values.mean()) if values.size else None
