"""CLIP's tokenizer in files: id for id as ours, whole and pruned."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from litetext.errors import OptionError
from litetext.prompts.bundled import bundled_corpus
from litetext.tokenizer.bpe import ClipTokenizer, clip_tokenizer
from litetext.tokenizer.portable import SmallMerges, kept_merges, portable_tokenizer
from litetext.tokenizer.pruned import KeptTokens
from litetext.tokenizer.vocabulary import BYTE_TOKENS

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
