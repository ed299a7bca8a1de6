"""Counts equal those of SAM3's tokenizer one prompt at a time; what follows from them has known answers."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.auditing import counting
from litetext.auditing.counting import (
    CorpusCounts,
    count_corpus,
    list_truncated,
    quantile,
    smallest_context,
    summarize,
    thin_ranks,
    use_of_context,
    use_of_vocabulary,
)
from litetext.errors import OptionError
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.bpe import TokenBatch
from litetext.tokenizer.vocabulary import END_ID, START_ID, clip_vocabulary
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
    assert sparse(counts.occurrences) == lengths
    assert counts.distinct.sum() == len(corpus)
    assert sparse(counts.tokens) == tokens
    assert {length: sparse(table) for length, table in counts.kept.items()} == kept
    assert sum(found.sum() for found, _ in counts.by_source.values()) == corpus.total


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = PromptCorpus.build(Prompt(f"white dog {index}", 1 + index % 3, f"s{index % 2}") for index in range(50))
    whole = count_corpus(corpus, CONTEXTS)
    monkeypatch.setattr(counting, "_CHUNK", 7)
    shares: list[float] = []
    assert_same(whole, count_corpus(corpus, CONTEXTS, shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("contexts", [[], [2, 8], [-1], [70_000]])
def test_bad_context_lengths(contexts: list[int]) -> None:
    with pytest.raises(OptionError, match="context lengths"):
        count_corpus(PromptCorpus.build([Prompt("dog")]), contexts)


def sparse(counts: np.ndarray) -> dict[int, int]:
    return {int(index): int(counts[index]) for index in np.flatnonzero(counts)}


def assert_same(first: CorpusCounts, second: CorpusCounts) -> None:
    for found, expected in zip(
        (first.occurrences, first.distinct, *first.by_source["s0"], *first.kept.values()),
        (second.occurrences, second.distinct, *second.by_source["s0"], *second.kept.values()),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.tokens_distinct, second.tokens_distinct)


lengths = st.lists(st.integers(2, 40), min_size=1, max_size=50)


def histogram(values: list[int]) -> np.ndarray:
    return np.bincount(values).astype(np.int64)


def test_context_by_hand() -> None:
    counts = histogram([2, 4, 4, 10])
    use = use_of_context(counts, 8)
    assert use.density == (2 + 4 + 4 + 8) / 32
    assert use.padding == 1 - use.density
    assert use.truncated == 0.25
    assert (use.lost_tokens, use.lost_share) == (2, 0.1)
    assert use.wasted_attention == 1 - (4 + 16 + 16 + 64) / (4 * 64)
    summary = summarize(counts)
    assert (summary.mean, summary.median, summary.max) == (5.0, 4.0, 10)
    assert summary.counting == "start and end tokens are counted"


@given(lengths, st.floats(0, 1))
def test_quantiles_are_numpys(values: list[int], share: float) -> None:
    assert quantile(histogram(values), share) == pytest.approx(np.quantile(values, share))


@given(lengths)
def test_summary_is_numpys(values: list[int]) -> None:
    summary = summarize(histogram(values))
    assert summary.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert (summary.median, summary.max) == (np.median(values), max(values))
    assert summary.p95 == pytest.approx(np.percentile(values, 95))


@given(lengths, st.integers(3, 50))
def test_use_of_context_is_the_definition(values: list[int], length: int) -> None:
    use, n = use_of_context(histogram(values), length), np.array(values)
    kept = np.minimum(n, length)
    assert use.density == pytest.approx(kept.mean() / length)
    assert use.truncated == pytest.approx((n > length).mean())
    assert use.lost_tokens == (n - kept).sum()
    assert use.wasted_attention == pytest.approx(1 - (kept**2).sum() / (len(n) * length**2))
    assert 0 <= use.padding < 1


@given(lengths, st.floats(0, 0.99))
def test_smallest_context_keeps_the_limit_and_is_smallest(values: list[int], limit: float) -> None:
    counts = histogram(values)
    length = smallest_context(counts, limit)
    assert use_of_context(counts, length).truncated <= limit + 1e-12
    if length > 3:
        assert use_of_context(counts, length - 1).truncated > limit - 1e-12


def test_smallest_context_by_hand() -> None:
    counts = histogram([5] * 98 + [9, 20])
    assert [smallest_context(counts, limit) for limit in (0.0, 0.01, 0.02, 0.5)] == [20, 9, 5, 5]


def test_vocabulary_by_hand() -> None:
    corpus = PromptCorpus.build([Prompt("white dog", 3), Prompt("dog", 1), Prompt("a very long white car", 1)])
    use = use_of_vocabulary(count_corpus(corpus, (5, 8)))
    # start, end, white, dog, a, very, long, car
    assert use.used == 8
    assert use.coverage == 8 / 49_408
    assert use.top["10"] == use.top["100"] == 1.0
    assert use.frequencies.tolist() == [5, 5, 4, 4, 1, 1, 1, 1]
    assert use.singletons == 4
    assert use.unseen == 4 / 8  # content tokens of distinct prompts: white x2, dog x2, and four once
    assert use.only_truncated == {"5": 1, "8": 0}  # at 5 "white car" is cut off; white occurs elsewhere
    assert set(use.most_frequent[:2]) == {("white", 4), ("dog", 4)}
    used = np.flatnonzero(count_corpus(corpus, (8,)).tokens)
    assert use.closure == len(clip_vocabulary().closure(used.tolist()))


def test_what_a_pruning_saves() -> None:
    use = use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("dog")]), (8,)))
    gone = 49_408 - use.closure
    assert use.closure_saves == {"s0": gone * 512, "s1": gone * 512, "l": gone * 768}
    assert use.to_json()["closure_saves"] == use.closure_saves


def test_top_shares_count_what_they_say() -> None:
    texts = [f"dog {chr(97 + index)}" for index in range(26)]
    use = use_of_vocabulary(count_corpus(PromptCorpus.build(Prompt(text) for text in texts), (8,)))
    total = 26 * 4
    assert use.top["10"] == (3 * 26 + 7) / total
    assert use.top_content["10"] == (26 + 9) / (26 * 2)


def test_empty_text_uses_start_and_end_only() -> None:
    use = use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("")]), (8,)))
    assert (use.used, use.unseen, use.most_frequent) == (2, 0.0, [])
    assert use.top_content["100"] == 0.0


@given(st.integers(0, 100_000))
def test_thinned_ranks_span_all(count: int) -> None:
    ranks = thin_ranks(count)
    assert len(ranks) <= 200
    assert (np.diff(ranks) > 0).all()
    if count:
        assert (ranks[0], ranks[-1]) == (1, count)


def test_json_is_plain() -> None:
    found = use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("white dog")]), (8,))).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["top"]["100"] == 1.0


def test_truncated_prompts_with_what_is_left_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    once, twice = "the white dog left of a table", "a white dog on a big table"
    corpus = PromptCorpus.build([Prompt("dog", 9), Prompt(once), Prompt(twice, 2), Prompt("white dog of a table")])
    lengths = count_corpus(corpus, [8]).lengths
    assert lengths.tolist() == [3, 9, 9, 7]
    found = list_truncated(corpus, lengths, 6)
    assert [one["text"] for one in found["examples"]] == [
        twice,
        once,
        "white dog of a table",
    ]  # by occurrence, then length
    assert found["examples"][0] == {"text": twice, "kept": "a white dog on", "tokens": 9, "count": 2}
    assert (found["context_length"], found["distinct"]) == (6, 3)
    monkeypatch.setattr(counting, "_EXAMPLES", 1)
    shown = list_truncated(corpus, lengths, 6)
    assert (shown["distinct"], [one["kept"] for one in shown["examples"]]) == (3, ["a white dog on"])
    assert list_truncated(corpus, lengths, 9)["examples"] == []
