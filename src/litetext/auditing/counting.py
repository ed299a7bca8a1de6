"""What prompts use of a context length and of the vocabulary, from one pass over a corpus."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.encoders.config import STUDENTS
from litetext.errors import OptionError
from litetext.prompts.corpus import PromptCorpus
from litetext.tokenizer.bpe import TokenSequences, clip_tokenizer
from litetext.tokenizer.vocabulary import END_ID, END_OF_WORD, START_ID, VOCABULARY_SIZE, clip_vocabulary

Counts = npt.NDArray[np.int64]
COUNTING = "start and end tokens are counted"
TOP = (10, 100, 1000)
_CHUNK = 16_384
_EXAMPLES = 50  # of truncated prompts


@dataclass(frozen=True)
class CorpusCounts:
    """Counts over a corpus; the n-th number of a histogram says how many prompts have n tokens."""

    occurrences: Counts  # int64 [M], histogram in which each occurrence counts
    distinct: Counts  # int64 [M], histogram in which each distinct prompt counts once
    lengths: Counts  # int64 [N], tokens of each distinct prompt
    by_source: Mapping[str, tuple[Counts, Counts]]  # both histograms of each source
    tokens: Counts  # int64 [V], occurrences of each token id, weighted by occurrence of its prompt
    tokens_distinct: Counts  # int64 [V], the same with each distinct prompt counted once
    # int64 [V] for each context length, the (weighted) occurrences that truncation to it leaves
    kept: Mapping[int, Counts]


def count_corpus(
    corpus: PromptCorpus, contexts: Iterable[int], progress: Callable[[float], None] | None = None
) -> CorpusCounts:
    """Tokenize a corpus and count, in chunks, so that memory does not grow with it.

    A context length below 3 is refused: start, end and nothing else would be left. ``progress`` is called with the
    share that is done.
    """
    checked = sorted(set(contexts))
    if not checked or checked[0] < 3 or checked[-1] > 65_536:
        raise OptionError(f"context lengths {checked}", hint="give lengths from 3 to 65536, for example 8,16,32,77")
    tokens, distinct = np.zeros(VOCABULARY_SIZE, dtype=np.int64), np.zeros(VOCABULARY_SIZE, dtype=np.int64)
    kept = {length: tokens.copy() for length in checked}
    lengths = np.empty(len(corpus), dtype=np.int64)
    for start in range(0, len(corpus), _CHUNK):
        rows = slice(start, start + _CHUNK)
        sequences = clip_tokenizer().encode(corpus.texts[rows])
        lengths[rows] = sequences.lengths
        weights = np.repeat(corpus.occurrences[rows], sequences.lengths)
        tokens += _bincount(sequences.ids, weights, VOCABULARY_SIZE)
        distinct += np.bincount(sequences.ids, minlength=VOCABULARY_SIZE)
        for length in checked:
            survives = _survives_truncation(sequences, length)
            kept[length] += _bincount(sequences.ids[survives], weights[survives], VOCABULARY_SIZE)
        if progress is not None:
            progress(min(1.0, (start + _CHUNK) / len(corpus)))
    return sum_counts(corpus, lengths, tokens, distinct, kept)


def sum_counts(
    corpus: PromptCorpus, lengths: Counts, tokens: Counts, distinct: Counts, kept: Mapping[int, Counts]
) -> CorpusCounts:
    """The counts of a corpus, from the tokens of each prompt and those of each id (see `CorpusCounts`)."""
    size = int(lengths.max(initial=0)) + 1
    occurrences, distinct_lengths = _histograms(lengths, corpus.occurrences, size)
    by_source = {
        name: _histograms(lengths, counts, size) for name, counts in zip(corpus.sources, corpus.counts, strict=True)
    }
    return CorpusCounts(occurrences, distinct_lengths, lengths, by_source, tokens, distinct, kept)


def _survives_truncation(sequences: TokenSequences, context_length: int) -> npt.NDArray[np.bool_]:
    """Which of the T tokens truncation keeps: of a longer text the first L - 1 and the end token."""
    ends = np.repeat(np.cumsum(sequences.lengths), sequences.lengths)
    lengths = np.repeat(sequences.lengths, sequences.lengths)
    position = np.arange(len(sequences.ids)) - (ends - lengths)
    return np.asarray((lengths <= context_length) | (position < context_length - 1) | (position == lengths - 1))


def _histograms(lengths: Counts, weights: Counts, size: int) -> tuple[Counts, Counts]:
    return _bincount(lengths, weights, size), np.bincount(lengths[weights > 0], minlength=size)


def _bincount(values: npt.NDArray[Any], weights: Counts, size: int) -> Counts:
    # bincount sums in float64, which is exact for whole numbers up to 2^53.
    return np.bincount(values, weights=weights, minlength=size).astype(np.int64)


def list_truncated(corpus: PromptCorpus, lengths: Counts, context_length: int) -> dict[str, Any]:
    """The prompts of more tokens than that, from the tokens of each, int64 [N].

    Returns:
        ``context_length``, ``distinct``, how many there are, and ``examples``, those that are asked most often, the
        longest of equals first: ``text``, ``kept`` (what is left of it), ``tokens`` and ``count``.
    """
    rows = np.flatnonzero(lengths > context_length)
    chosen = rows[np.lexsort((-lengths[rows], -corpus.occurrences[rows]))][:_EXAMPLES]
    sequences = clip_tokenizer().encode([corpus.texts[row] for row in chosen])
    kept = [clip_tokenizer().decode(ids[: context_length - 1].tolist()) for ids in sequences]
    examples = [
        {"text": corpus.texts[row], "kept": left, "tokens": int(lengths[row]), "count": int(corpus.occurrences[row])}
        for row, left in zip(chosen, kept, strict=True)
    ]
    return {"context_length": context_length, "distinct": len(rows), "examples": examples}


@dataclass(frozen=True)
class LengthSummary:
    """Tokens of a prompt, start and end included; percentiles are interpolated linearly, as NumPy does."""

    mean: float
    median: float
    p95: float
    max: int
    counting: str = COUNTING


@dataclass(frozen=True)
class ContextUse:
    """What N prompts of n_i tokens (start and end counted) make of a context of L tokens; kept_i = min(n_i, L)."""

    length: int  # L
    density: float  # sum of kept_i / (N L), the information density (paper section 3)
    padding: float  # 1 - density
    truncated: float  # share of prompts with n_i > L
    lost_tokens: int  # sum of n_i - kept_i
    lost_share: float  # lost tokens as a share of all tokens
    wasted_attention: float  # 1 - sum of kept_i^2 / (N L^2), the share of attention pairs that touch padding


def summarize(histogram: Counts) -> LengthSummary:
    """Mean, median, 95th percentile and maximum of a histogram with at least one prompt."""
    mean = int(histogram @ np.arange(len(histogram))) / int(histogram.sum())
    longest = int(np.flatnonzero(histogram)[-1])
    return LengthSummary(mean, quantile(histogram, 0.5), quantile(histogram, 0.95), longest)


def quantile(histogram: Counts, share: float) -> float:
    """The quantile of a histogram with linear interpolation between order statistics (NumPy's default)."""
    cumulated = np.cumsum(histogram)
    rank = (int(cumulated[-1]) - 1) * share
    below, above = np.searchsorted(cumulated, [np.floor(rank), np.ceil(rank)], side="right")
    return float(below + (above - below) * (rank - np.floor(rank)))


def use_of_context(histogram: Counts, length: int) -> ContextUse:
    """What the prompts of a histogram, at least one, make of a context length."""
    tokens = np.arange(len(histogram))
    kept = np.minimum(tokens, length)
    total, all_tokens = int(histogram.sum()), int(histogram @ tokens)
    lost = all_tokens - int(histogram @ kept)
    density = int(histogram @ kept) / (total * length)
    return ContextUse(
        length=length,
        density=density,
        padding=1 - density,
        truncated=int(histogram[length + 1 :].sum()) / total,
        lost_tokens=lost,
        lost_share=lost / all_tokens,
        wasted_attention=1 - int(histogram @ kept**2) / (total * length**2),
    )


def smallest_context(histogram: Counts, limit: float) -> int:
    """The smallest context length (at least 3) that truncates at most the share ``limit`` of the prompts."""
    longer = int(histogram.sum()) - np.cumsum(histogram)
    return max(3, int(np.argmax(longer <= limit * int(histogram.sum()))))


@dataclass(frozen=True)
class VocabularyUse:
    """The use of a vocabulary by a corpus; start and end tokens are counted unless a name says content."""

    size: int  # ids in the vocabulary
    used: int  # ids that occur
    coverage: float  # used / size
    # for k of "10", "100", "1000" the share of all token occurrences that the k most frequent ids make up
    top: Mapping[str, float]
    top_distinct: Mapping[str, float]  # the same with each distinct prompt counted once
    top_content: Mapping[str, float]  # the same as `top` without start and end tokens
    singletons: int  # ids that occur once
    # share of the tokens of further distinct prompts that are expected to be new, by Good-Turing: content ids of
    # exactly one distinct prompt occurrence over all content tokens of distinct prompts (Good 1953)
    unseen: float
    only_truncated: Mapping[str, int]  # for each context length, ids whose every occurrence truncation to it cuts off
    closure: int  # ids that a lossless pruning keeps (see `Vocabulary.closure`)
    # parameters that it saves, by student: a row of the token table for each id that goes
    closure_saves: Mapping[str, int]
    most_frequent: Sequence[tuple[str, int]]  # the ten most frequent content tokens as text, with their occurrences
    frequencies: Counts  # int64 [used], occurrences in descending order, for the rank-frequency curve
    counting: str = COUNTING

    def to_json(self) -> dict[str, Any]:
        """Plain values; the rank-frequency curve is thinned to about 200 ranks, evenly on a log axis."""
        fields = asdict(self)
        frequencies = fields.pop("frequencies")
        curve = [[int(rank), int(frequencies[rank - 1])] for rank in thin_ranks(len(frequencies))]
        return {**fields, "most_frequent": [list(pair) for pair in self.most_frequent], "rank_frequency": curve}


def use_of_vocabulary(counts: CorpusCounts) -> VocabularyUse:
    """Vocabulary statistics of a counted corpus."""
    used = np.flatnonzero(counts.tokens)
    content, distinct = counts.tokens.copy(), counts.tokens_distinct.copy()
    content[[START_ID, END_ID]] = distinct[[START_ID, END_ID]] = 0
    tokens, closure = clip_vocabulary().tokens, len(clip_vocabulary().closure(used.tolist()))
    best = np.argsort(content, kind="stable")[::-1][:10]
    return VocabularyUse(
        size=VOCABULARY_SIZE,
        used=len(used),
        coverage=len(used) / VOCABULARY_SIZE,
        top=_top_shares(counts.tokens),
        top_distinct=_top_shares(counts.tokens_distinct),
        top_content=_top_shares(content),
        singletons=int((counts.tokens == 1).sum()),
        unseen=int((distinct == 1).sum()) / max(1, int(distinct.sum())),
        only_truncated={str(length): len(used) - int((kept > 0).sum()) for length, kept in counts.kept.items()},
        closure=closure,
        closure_saves={preset.name: (VOCABULARY_SIZE - closure) * preset.width for preset in STUDENTS},
        most_frequent=[(tokens[row].removesuffix(END_OF_WORD), int(content[row])) for row in best if content[row]],
        frequencies=np.sort(counts.tokens[used])[::-1],
    )


def thin_ranks(count: int, points: int = 200) -> npt.NDArray[np.int64]:
    """About ``points`` ranks from 1 to ``count``, evenly on a log axis, each once."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.geomspace(1, count, points).round().astype(np.int64))


def _top_shares(tokens: Counts) -> dict[str, float]:
    """Share of occurrences of the k most frequent ids, for each k of `TOP`."""
    descending = np.sort(tokens)[::-1]
    total = max(1, int(tokens.sum()))
    return {str(k): int(descending[:k].sum()) / total for k in TOP}
