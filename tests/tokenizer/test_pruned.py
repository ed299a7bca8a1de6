"""Pruned vocabularies: what they are made for keeps its tokens, anything else still has some."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.errors import OptionError
from litetext.prompts.bundled import bundled_corpus
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import clean
from litetext.tokenizer.pruned import KeptTokens, kept_tokens
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
