"""Vocabulary: which token ids the prompts use, how often, and what a lossless pruning would keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from litetext.auditing.counting import COUNTING, CorpusCounts
from litetext.encoders.config import STUDENTS
from litetext.tokenizer.vocabulary import END_ID, START_ID, VOCABULARY_SIZE, clip_vocabulary

Counts = npt.NDArray[np.int64]
TOP = (10, 100, 1000)


@dataclass(frozen=True)
class VocabularyUse:
    """The use of a vocabulary by a corpus; start and end tokens are counted as tokens unless a name says content.

    Attributes:
        size: ids in the vocabulary.
        used: ids that occur.
        coverage: used / size.
        top: for k in 10, 100, 1000, the share of all token occurrences that the k most frequent ids make up.
        top_distinct: the same with each distinct prompt counted once.
        top_content: the same as ``top`` without start and end tokens.
        singletons: ids that occur once.
        unseen: share of the tokens of further distinct prompts that are expected to be new, by Good-Turing: content ids
            of exactly one distinct prompt occurrence over all content tokens of distinct prompts (Good 1953).
        only_truncated: for each context length, ids whose every occurrence truncation to it cuts off.
        closure: ids that a lossless pruning keeps (see `Vocabulary.closure`).
        frequencies: int64 [used], occurrences in descending order, for the rank-frequency curve.
        most_frequent: the ten most frequent content tokens as text, with their occurrences.
    """

    size: int
    used: int
    coverage: float
    top: Mapping[int, float]
    top_distinct: Mapping[int, float]
    top_content: Mapping[int, float]
    singletons: int
    unseen: float
    only_truncated: Mapping[int, int]
    closure: int
    frequencies: Counts
    most_frequent: Sequence[tuple[str, int]]

    @property
    def saves(self) -> dict[str, int]:
        """Parameters that a lossless pruning saves, by student: a row of the token table for each id that goes."""
        return {preset.name: (self.size - self.closure) * preset.width for preset in STUDENTS}

    def to_json(self) -> dict[str, object]:
        """Plain values; the rank-frequency curve is thinned to about 200 ranks, evenly on a log axis."""
        ranks = thin_ranks(len(self.frequencies))
        return {
            "size": self.size,
            "used": self.used,
            "coverage": self.coverage,
            "counting": COUNTING,
            "top": _string_keys(self.top),
            "top_distinct": _string_keys(self.top_distinct),
            "top_content": _string_keys(self.top_content),
            "singletons": self.singletons,
            "unseen": self.unseen,
            "only_truncated": _string_keys(self.only_truncated),
            "closure": self.closure,
            "closure_saves": self.saves,
            "most_frequent": [list(pair) for pair in self.most_frequent],
            "rank_frequency": [[int(rank), int(self.frequencies[rank - 1])] for rank in ranks],
        }


def use_of_vocabulary(counts: CorpusCounts) -> VocabularyUse:
    """Vocabulary statistics of a counted corpus."""
    used = np.flatnonzero(counts.tokens)
    content, distinct = _without_special(counts.tokens), _without_special(counts.tokens_distinct)
    return VocabularyUse(
        size=VOCABULARY_SIZE,
        used=len(used),
        coverage=len(used) / VOCABULARY_SIZE,
        top=_top_shares(counts.tokens),
        top_distinct=_top_shares(counts.tokens_distinct),
        top_content=_top_shares(content),
        singletons=int((counts.tokens == 1).sum()),
        unseen=int((distinct == 1).sum()) / max(1, int(distinct.sum())),
        only_truncated={length: len(used) - int((kept > 0).sum()) for length, kept in counts.kept.items()},
        closure=len(clip_vocabulary().closure(used.tolist())),
        frequencies=np.sort(counts.tokens[used])[::-1],
        most_frequent=_most_frequent(content),
    )


def thin_ranks(count: int, points: int = 200) -> npt.NDArray[np.int64]:
    """About ``points`` ranks from 1 to ``count``, evenly on a log axis, each once."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.geomspace(1, count, points).round().astype(np.int64))


def _without_special(tokens: Counts) -> Counts:
    content = tokens.copy()
    content[[START_ID, END_ID]] = 0
    return content


def _top_shares(tokens: Counts) -> dict[int, float]:
    """Share of occurrences of the k most frequent ids; 0 where no token occurs at all."""
    descending = np.sort(tokens)[::-1]
    total = max(1, int(tokens.sum()))
    return {k: int(descending[:k].sum()) / total for k in TOP}


def _most_frequent(content: Counts) -> list[tuple[str, int]]:
    tokens = clip_vocabulary().tokens
    best = np.argsort(content, kind="stable")[::-1][:10]
    return [(tokens[index].removesuffix("</w>"), int(content[index])) for index in best if content[index]]


def _string_keys(values: Mapping[int, float]) -> dict[str, float]:
    return {str(key): value for key, value in values.items()}
