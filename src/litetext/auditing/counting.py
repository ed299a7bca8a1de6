"""One pass over a corpus: every count that the audit needs, as sums that can be merged.

Count parts of a corpus apart, on several machines if need be, and `merge` them: the result is that of the whole. Counts
by occurrence add up for any parts; counts by distinct prompt do when no phrase is in two parts
([`PromptCorpus.split`][litetext.prompts.corpus.PromptCorpus.split] gives such parts).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError
from litetext.prompts.corpus import PromptCorpus
from litetext.tokenizer.bpe import TokenSequences, clip_tokenizer
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE

Counts = npt.NDArray[np.int64]
COUNTING = "start and end tokens are counted"
_CHUNK = 16_384


@dataclass(frozen=True)
class LengthCounts:
    """How many prompts have how many tokens.

    Attributes:
        occurrences: int64 [M], prompts of n tokens at index n, each occurrence counted.
        distinct: int64 [M], the same with each distinct prompt counted once.
    """

    occurrences: Counts
    distinct: Counts

    def merge(self, other: "LengthCounts") -> "LengthCounts":
        """The counts of both."""
        return LengthCounts(_add(self.occurrences, other.occurrences), _add(self.distinct, other.distinct))


@dataclass(frozen=True)
class CorpusCounts:
    """Sums over a corpus from which context and vocabulary statistics follow.

    Attributes:
        lengths: token counts over all sources.
        by_source: token counts of each source.
        tokens: int64 [V], occurrences of each token id, weighted by occurrence of its prompt.
        tokens_distinct: int64 [V], the same with each distinct prompt counted once.
        kept: int64 [V] for each context length, the occurrences (weighted) that truncation to it leaves in place.
    """

    lengths: LengthCounts
    by_source: dict[str, LengthCounts]
    tokens: Counts
    tokens_distinct: Counts
    kept: dict[int, Counts]

    def merge(self, other: "CorpusCounts") -> "CorpusCounts":
        """The counts of both parts.

        Raises:
            ValueError: they were counted for different context lengths.
        """
        if self.kept.keys() != other.kept.keys():
            raise ValueError(f"counted for context lengths {list(self.kept)} and {list(other.kept)}")
        by_source = dict(self.by_source)
        for name, counts in other.by_source.items():
            by_source[name] = by_source[name].merge(counts) if name in by_source else counts
        return CorpusCounts(
            self.lengths.merge(other.lengths),
            by_source,
            self.tokens + other.tokens,
            self.tokens_distinct + other.tokens_distinct,
            {length: self.kept[length] + other.kept[length] for length in self.kept},
        )


def check_contexts(contexts: Iterable[int]) -> tuple[int, ...]:
    """Context lengths in ascending order, each once.

    Raises:
        OptionError: none, or one below 3 (start, end and nothing else would be left).
    """
    checked = tuple(sorted(set(contexts)))
    if not checked or checked[0] < 3 or checked[-1] > 65_536:
        raise OptionError(
            f"context lengths {list(checked)}", hint="give lengths from 3 to 65536, for example 8,16,32,77"
        )
    return checked


def count_corpus(
    corpus: PromptCorpus, contexts: Sequence[int], progress: Callable[[float], None] | None = None
) -> CorpusCounts:
    """Tokenize a corpus and count, in pieces, so that memory does not grow with it.

    Args:
        corpus: the prompts.
        contexts: context lengths L for which `kept` is counted.
        progress: called with the share that is done, from 0 to 1.
    """
    checked = check_contexts(contexts)
    tokenizer = clip_tokenizer()
    tokens, distinct = _zeros(), _zeros()
    kept = {length: _zeros() for length in checked}
    lengths = np.empty(len(corpus), dtype=np.int64)
    for start in range(0, len(corpus), _CHUNK):
        rows = slice(start, start + _CHUNK)
        sequences = tokenizer.encode(corpus.texts[rows])
        lengths[rows] = sequences.lengths
        weights = np.repeat(corpus.occurrences[rows], sequences.lengths)
        tokens += _bincount(sequences.ids, weights)
        distinct += _bincount(sequences.ids, np.ones_like(weights))
        for length in checked:
            inside = _survives(sequences, length)
            kept[length] += _bincount(sequences.ids[inside], weights[inside])
        if progress is not None:
            progress(min(1.0, (start + _CHUNK) / len(corpus)))
    size = int(lengths.max(initial=0)) + 1
    by_source = {
        name: _count_lengths(lengths, counts, size) for name, counts in zip(corpus.sources, corpus.counts, strict=True)
    }
    return CorpusCounts(_count_lengths(lengths, corpus.occurrences, size), by_source, tokens, distinct, kept)


def _survives(sequences: TokenSequences, context: int) -> npt.NDArray[np.bool_]:
    """Which of the T tokens truncation to ``context`` keeps: of a longer text the first L - 1 and the end token."""
    ends = np.repeat(np.cumsum(sequences.lengths), sequences.lengths)
    position = np.arange(len(sequences.ids)) - (ends - np.repeat(sequences.lengths, sequences.lengths))
    fits = np.repeat(sequences.lengths <= context, sequences.lengths)
    is_last = np.arange(len(sequences.ids)) == ends - 1
    survives: npt.NDArray[np.bool_] = fits | (position < context - 1) | is_last
    return survives


def _count_lengths(lengths: Counts, weights: Counts, size: int) -> LengthCounts:
    return LengthCounts(
        _bincount(lengths, weights, size),
        _bincount(lengths, (weights > 0).astype(np.int64), size),
    )


def _bincount(values: npt.NDArray[Any], weights: Counts, size: int = VOCABULARY_SIZE) -> Counts:
    # bincount sums in float64, which is exact for whole numbers up to 2^53.
    return np.bincount(values, weights=weights, minlength=size).astype(np.int64)


def _zeros() -> Counts:
    return np.zeros(VOCABULARY_SIZE, dtype=np.int64)


def _add(first: Counts, second: Counts) -> Counts:
    total = np.zeros(max(len(first), len(second)), dtype=np.int64)
    total[: len(first)] += first
    total[: len(second)] += second
    return total
