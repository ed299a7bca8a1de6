from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.auditing import counting
from litetext.auditing.counting import CorpusCounts, count_corpus
from litetext.errors import OptionError
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.batch import TokenBatch
from litetext.tokenizer.vocabulary import END_ID, START_ID
from tests.tokenizer.reference import sam3_tokenizer

CONTEXTS = (4, 8)
words = st.sampled_from(["dog", "white", "left", "of", "zebra-crossing", "café", "a", "x1y2z3"])
corpora = st.lists(
    st.builds(Prompt, st.lists(words, max_size=8).map(" ".join), st.integers(1, 4), st.sampled_from(["one", "two"])),
    min_size=1,
    max_size=20,
).map(PromptCorpus.build)


def plain_counts(corpus: PromptCorpus) -> tuple[Counter[int], Counter[int], dict[int, Counter[int]]]:
    """Lengths, tokens and kept tokens, counted one prompt at a time with SAM3's tokenizer."""
    lengths: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    kept: dict[int, Counter[int]] = {length: Counter() for length in CONTEXTS}
    for text, count in zip(corpus.texts, corpus.occurrences.tolist(), strict=True):
        ids = [START_ID, *sam3_tokenizer().encode(text), END_ID]
        lengths[len(ids)] += count
        for _ in range(count):
            tokens.update(ids)
            for length, table in kept.items():
                batch = TokenBatch.of_texts([text], length)
                table.update(batch.ids[batch.mask].tolist())
    return lengths, tokens, kept


@given(corpora)
@settings(max_examples=60)
def test_equals_counting_one_by_one(corpus: PromptCorpus) -> None:
    counts = count_corpus(corpus, CONTEXTS)
    lengths, tokens, kept = plain_counts(corpus)
    assert sparse(counts.lengths.occurrences) == lengths
    assert counts.lengths.distinct.sum() == len(corpus)
    assert sparse(counts.tokens) == tokens
    assert {length: sparse(table) for length, table in counts.kept.items()} == kept
    assert sum(found.occurrences.sum() for found in counts.by_source.values()) == corpus.total


@given(corpora, st.integers(0, 9))
@settings(max_examples=60)
def test_parts_counted_apart_and_merged_are_the_whole(corpus: PromptCorpus, seed: int) -> None:
    parts = [part for part in corpus.split({"a": 0.5, "b": 0.5}, seed).values() if len(part)]
    merged = count_corpus(parts[0], CONTEXTS)
    for part in parts[1:]:
        merged = merged.merge(count_corpus(part, CONTEXTS))
    assert_same(merged, count_corpus(corpus, CONTEXTS))


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = PromptCorpus.build(Prompt(f"white dog {index}", 1 + index % 3, f"s{index % 2}") for index in range(50))
    whole = count_corpus(corpus, CONTEXTS)
    monkeypatch.setattr(counting, "_CHUNK", 7)
    shares: list[float] = []
    assert_same(whole, count_corpus(corpus, CONTEXTS, shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_other_context_lengths_cannot_be_merged() -> None:
    corpus = PromptCorpus.build([Prompt("dog")])
    with pytest.raises(ValueError, match=r"\[8\] and \[16\]"):
        count_corpus(corpus, [8]).merge(count_corpus(corpus, [16]))


@pytest.mark.parametrize("contexts", [[], [2, 8], [-1], [70_000]])
def test_bad_context_lengths(contexts: list[int]) -> None:
    with pytest.raises(OptionError, match="context lengths"):
        count_corpus(PromptCorpus.build([Prompt("dog")]), contexts)


def sparse(counts: np.ndarray) -> dict[int, int]:
    return {int(index): int(counts[index]) for index in np.flatnonzero(counts)}


def assert_same(first: CorpusCounts, second: CorpusCounts) -> None:
    assert sparse(first.lengths.occurrences) == sparse(second.lengths.occurrences)
    assert sparse(first.lengths.distinct) == sparse(second.lengths.distinct)
    assert first.by_source.keys() == second.by_source.keys()
    for name, found in first.by_source.items():
        assert sparse(found.occurrences) == sparse(second.by_source[name].occurrences)
        assert sparse(found.distinct) == sparse(second.by_source[name].distinct)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.tokens_distinct, second.tokens_distinct)
    for length, table in first.kept.items():
        np.testing.assert_array_equal(table, second.kept[length])
