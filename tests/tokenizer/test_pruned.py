"""Pruned vocabularies: what they are made for keeps its tokens, anything else still has some."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from litetext.errors import OptionError
from litetext.prompts.corpus import bundled_corpus
from litetext.tokenizer.bpe import ClipTokenizer, clip_tokenizer
from litetext.tokenizer.clean import clean
from litetext.tokenizer.pruned import (
    KeptTokens,
    SmallMerges,
    clip_merges,
    kept_merges,
    kept_tokens,
    portable_tokenizer,
)
from litetext.tokenizer.vocabulary import BYTE_TOKENS, END_ID, START_ID, VOCABULARY_SIZE, clip_vocabulary

PHRASES = bundled_corpus().texts
PHRASE = st.sampled_from(PHRASES)


@given(texts=st.lists(PHRASE, min_size=1, max_size=30), other=st.lists(st.text(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_phrases_keep_their_tokens_and_other_text_has_some(texts: list[str], other: list[str]) -> None:
    kept = KeptTokens.of_texts(texts)
    whole, pruned = clip_tokenizer().encode(texts), kept.tokenizer.encode(texts)
    assert np.array_equal(whole.ids, pruned.ids)
    assert np.array_equal(whole.lengths, pruned.lengths)
    vocabulary = clip_vocabulary().tokens
    for text in other:
        ids = kept.tokenizer.encode([text]).ids
        assert (kept.rows[ids] >= 0).all()
        spelt = ["".join(vocabulary[index] for index in some) for some in (ids, clip_tokenizer().encode([text]).ids)]
        assert spelt[0] == spelt[1], "the same bytes and ends of words, cut elsewhere"


def test_a_hundred_thousand_phrases_keep_their_tokens() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(PHRASES), size=(100_000, 2))
    texts = [f"{PHRASES[left]} {PHRASES[right]}" for left, right in pairs]
    kept = KeptTokens.of_texts(texts)
    assert len(kept) < 7000
    whole, pruned = clip_tokenizer().encode(texts), kept.tokenizer.encode(texts)
    assert np.array_equal(whole.ids, pruned.ids)
    assert np.array_equal(whole.lengths, pruned.lengths)


def test_a_word_falls_into_the_pieces_that_are_left() -> None:
    kept = KeptTokens.of_texts(["dog"])
    assert kept.tokenizer.encode(["dog"]).lengths.tolist() == [3]
    assert kept.tokenizer.encode(["dogs"]).lengths.tolist() == [2 + len(["do", "g", "s</w>"])]
    assert clip_tokenizer().encode(["dogs"]).lengths.tolist() == [3]


def test_rows_are_numbered_in_the_order_of_the_ids() -> None:
    kept = KeptTokens.of_texts(["a cat"])
    assert kept.rows.shape == (VOCABULARY_SIZE,)
    assert kept.rows[list(kept.ids)].tolist() == list(range(len(kept)))
    assert kept.rows[[0, START_ID, END_ID]].tolist() == [0, len(kept) - 2, len(kept) - 1]
    assert int((kept.rows < 0).sum()) == VOCABULARY_SIZE - len(kept)


@given(texts=st.lists(PHRASE, min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_it_survives_being_written(texts: list[str]) -> None:
    kept = KeptTokens.of_texts(map(clean, texts))
    text = kept.to_text()
    assert KeptTokens.from_text(text) == kept
    assert len(text) == 4 * -(-VOCABULARY_SIZE // 8 // 3)
    assert kept_tokens(text) is kept_tokens(text)


def test_what_makes_no_sense_is_refused() -> None:
    closed = KeptTokens.of_texts(["dog"])
    with pytest.raises(OptionError, match="1 tokens are missing"):
        KeptTokens(closed.ids[1:])
    with pytest.raises(OptionError, match="do not rise"):
        KeptTokens(closed.ids[::-1])
    for ids in ((), (-1,), (VOCABULARY_SIZE,)):
        with pytest.raises(OptionError, match="not CLIP's"):
            KeptTokens(ids)
    merged = next(index for index in closed.ids if index >= BYTE_TOKENS)
    assert merged < START_ID
    with pytest.raises(OptionError, match="not base64"):
        KeptTokens.from_text("no!")
    with pytest.raises(OptionError, match="not base64"):
        KeptTokens.from_text(7)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="24 bits, not 49,408"):
        KeptTokens.from_text("AAAA")


SMALL = ClipTokenizer(SmallMerges(kept_merges()))
KEPT = KeptTokens.of_texts(["white dog", "red car", "überraschung"])
SMALL_PRUNED = ClipTokenizer(SmallMerges(kept_merges(KEPT.ids)))
DATA = Path(__file__).parents[3] / "shared" / "data" / "prompts"


def test_bundled_phrases_have_the_same_ids() -> None:
    texts = bundled_corpus().texts
    wanted = clip_tokenizer().encode(texts)
    np.testing.assert_array_equal(SMALL.encode(texts).ids, wanted.ids)
    library = Tokenizer.from_str(portable_tokenizer())
    assert [one.ids for one in library.encode_batch(texts)] == [row.tolist() for row in wanted]


@given(st.lists(st.text(), max_size=4))
def test_any_text_has_the_same_ids(texts: list[str]) -> None:
    np.testing.assert_array_equal(SMALL.encode(texts).ids, clip_tokenizer().encode(texts).ids)
    np.testing.assert_array_equal(SMALL_PRUNED.encode(texts).ids, KEPT.tokenizer.encode(texts).ids)


@given(st.text(alphabet="ab'0é &;<", max_size=30))
def test_words_of_few_letters(text: str) -> None:
    np.testing.assert_array_equal(SMALL.encode([text]).ids, clip_tokenizer().encode([text]).ids)


def test_a_pruned_file_has_the_kept_tokens_only() -> None:
    library = Tokenizer.from_str(portable_tokenizer(KEPT.ids))
    assert sorted(library.get_vocab().values()) == list(KEPT.ids)
    for text in ("white dog", "a locomotive"):
        (row,) = KEPT.tokenizer.encode([text])
        assert library.encode(text).ids == row.tolist()


def test_merges_are_those_of_the_vocabulary() -> None:
    merges = kept_merges()
    assert merges.shape == (48_894, 3)
    assert merges[:, 2].tolist() == list(range(BYTE_TOKENS, BYTE_TOKENS + 48_894))
    assert kept_merges([0, 1]).shape == (0, 3)


def test_what_is_no_table_of_merges_is_refused() -> None:
    with pytest.raises(OptionError, match=r"merges are int64 \[2, 3\], not uint16"):
        SmallMerges(np.zeros((2, 3), dtype=np.int64))  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_real_phrases_have_the_same_ids() -> None:
    texts = (DATA / "saco_veval_toy_categories.txt").read_text(encoding="utf-8").splitlines()
    np.testing.assert_array_equal(SMALL.encode(texts).ids, clip_tokenizer().encode(texts).ids)


def test_the_merges_of_the_package_are_those_of_the_vocabulary() -> None:
    np.testing.assert_array_equal(clip_merges(), kept_merges())
    assert clip_merges().dtype == np.uint16
