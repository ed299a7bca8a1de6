import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.errors import OptionError
from litetext.tokenizer import bpe
from litetext.tokenizer.bpe import ClipTokenizer, TokenBatch, clip_tokenizer
from litetext.tokenizer.vocabulary import END_ID, START_ID
from tests.tokenizer.reference import sam3_tokenizer

NASTY = [
    "",
    " ",
    "\t\n ",
    "white dog",
    "  White\u00a0DOG\u2003 on\nthe  left ",
    "a dog's ball, we're they've I'm he'll she'd don't",
    "'S 'T 'RE 'ſ dog'ſ",
    "<|endoftext|>",
    "a <|startoftext|> b",
    "<end_of_text>",
    "!<start_of_text>!<END_OF_TEXT>x",
    "dog<end_of_text>cat",
    "<ſtart_of_text>",
    "caf\u00e9 cafe\u0301 na\u00efve \u0130stanbul \u01c4",
    "😀👩‍👩‍👧‍👦🏳️‍🌈 dog🐕",
    "&amp;amp;amp;lt;b&gt; &eacute; &#x1F600; &nbsp; &#28; &copy",
    "x" * 300,
    "ab" * 150 + "\u00e9" * 300,
    "3rd 2023 ½ Ⅷ ٣ 12.5%",
    "犬 собака كلب כלב สุนัข कुत्ता",
    "\ufb01sh \uff46\uff55\uff4c\uff4c “quoted” ‘single’",
    "\x00\x01\x1b[31mred\x1b[0m \x1c\x1d\x1e\x1f \x85 \u2028 \u200b \ufeff",
    "donâ€™t schÃ¶n",
    "\ud800",
    "\U0003fc3b \u0558 \ua7ce",
    "a_b-c.d,e;f:g/h\\i|j",
]
fragments = (
    st.sampled_from(NASTY) | st.text(max_size=20) | st.text(alphabet="aſ'<>_|&;#st rve\u0130é\n\u00a0", max_size=20)
)


def ours(texts: list[str]) -> list[list[int]]:
    return [ids[1:-1].tolist() for ids in clip_tokenizer().encode(texts)]


@pytest.mark.parametrize("text", NASTY)
def test_equals_sam3_on_nasty_text(text: str) -> None:
    assert ours([text]) == [sam3_tokenizer().encode(text)]


@given(st.lists(st.lists(fragments, max_size=4).map("".join), max_size=6))
@settings(max_examples=400)
def test_equals_sam3_on_any_text(texts: list[str]) -> None:
    assert ours(texts) == [sam3_tokenizer().encode(text) for text in texts]


@pytest.mark.slow
@pytest.mark.data
def test_equals_sam3_on_every_given_prompt(real_lines: list[str]) -> None:
    assert len(real_lines) > 113_000
    distinct = list(dict.fromkeys(real_lines))
    expected = [sam3_tokenizer().encode(line) for line in distinct]
    assert ours(distinct) == expected


@pytest.mark.sam3
def test_equals_the_sam3_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec("sam3")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("iopath") is None:
        pytest.skip("the package sam3 (SAM License) is not installed: `make oracle`")
    file = Path(found.submodule_search_locations[0]) / "model" / "tokenizer_ve.py"
    spec = importlib.util.spec_from_file_location("tokenizer_ve", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tokenizer_ve", module)
    spec.loader.exec_module(module)
    open_clip = importlib.util.find_spec("open_clip")
    assert open_clip is not None
    assert open_clip.origin is not None
    merges = Path(open_clip.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    tokenizer = module.SimpleTokenizer(bpe_path=str(merges))
    assert ours(NASTY) == [tokenizer.encode(text) for text in NASTY]

    @given(st.lists(fragments, max_size=4).map("".join))
    @settings(max_examples=300)
    def agrees(text: str) -> None:
        assert ours([text]) == [tokenizer.encode(text)]

    agrees()


def test_start_and_end_are_included() -> None:
    sequences = clip_tokenizer().encode(["white dog", "", "a photo of a cat"])
    assert [ids.tolist() for ids in sequences] == [
        [START_ID, 1579, 1929, END_ID],
        [START_ID, END_ID],
        [START_ID, 320, 1125, 539, 320, 2368, END_ID],
    ]
    assert sequences.lengths.tolist() == [4, 2, 7]


def test_no_texts() -> None:
    sequences = clip_tokenizer().encode([])
    assert len(sequences) == 0
    assert list(sequences) == []


def test_chunks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = clip_tokenizer().encode(NASTY)
    monkeypatch.setattr(bpe, "_CHUNK", 3)
    pieces = clip_tokenizer().encode(iter(NASTY))
    np.testing.assert_array_equal(whole.ids, pieces.ids)
    np.testing.assert_array_equal(whole.lengths, pieces.lengths)


def test_a_full_word_cache_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "_MAX_CACHED_WORDS", 5)
    tokenizer = ClipTokenizer()
    texts = [f"word{index} dog" for index in range(20)]
    for _ in range(2):
        for text in texts:
            assert tokenizer.encode([text]).ids[1:-1].tolist() == sam3_tokenizer().encode(text)
    assert len(tokenizer._words) < 12


def test_many_threads_share_one_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "_MAX_CACHED_WORDS", 50)
    tokenizer = ClipTokenizer()
    texts = [f"a {index} white dog{index}" for index in range(400)]
    expected = [sam3_tokenizer().encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: tokenizer.encode([text]).ids[1:-1].tolist(), texts))
    assert found == expected


@pytest.mark.parametrize(("texts", "message"), [("dog", "list"), (["dog", 3], "text 1"), ([None], "NoneType")])
def test_not_strings(texts: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        clip_tokenizer().encode(texts)  # type: ignore[arg-type]


def test_decode_for_people() -> None:
    ids = clip_tokenizer().encode(["Café on the 2nd floor 😀"]).ids
    assert clip_tokenizer().decode(ids.tolist()) == "café on the 2 nd floor 😀"


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(2, 20))
def test_pads_and_truncates_as_sam3_does(texts: list[str], context_length: int) -> None:
    batch = TokenBatch.of_texts(texts, context_length)
    assert batch.ids.shape == (len(texts), context_length)
    np.testing.assert_array_equal(
        batch.ids, sam3_tokenizer()(texts, context_length).numpy().reshape(-1, context_length)
    )
    np.testing.assert_array_equal(
        batch.mask.sum(axis=1), [min(context_length, len(sam3_tokenizer().encode(text)) + 2) for text in texts]
    )


def test_a_batch_by_hand() -> None:
    batch = TokenBatch.of_texts(["white dog", "a photo of a cat"], 5)
    assert batch.ids.tolist() == [[START_ID, 1579, 1929, END_ID, 0], [START_ID, 320, 1125, 539, END_ID]]
    assert batch.mask.tolist() == [[True] * 4 + [False], [True] * 5]
    assert batch.context_length == 5
    assert len(batch) == 2


def test_a_context_without_room() -> None:
    with pytest.raises(OptionError, match="context length 1 is below 2"):
        TokenBatch.of_texts(["dog"], 1)


def test_shapes_and_types_are_checked_at_birth() -> None:
    ids = np.zeros((2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match=r"must both be \[B, L\]"):
        TokenBatch(ids, np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="not int64 and bool"):
        TokenBatch(ids, np.ones((2, 3), dtype=np.int64))  # type: ignore[arg-type]


def test_the_first_words_and_the_later_ones_are_merged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    library = bpe.clip_bpe
    monkeypatch.setattr(bpe, "clip_bpe", lambda: made.append(1) or library())
    monkeypatch.setattr(bpe, "_FEW_WORDS", 12)
    merge, whole = bpe._merge_few_or_many(), bpe.merge_by(library())
    words = [f"{word}{index}" for index in range(6) for word in ("photograph", "zebras", "x", "\u0101\u0142")]
    assert [merge(word) for word in words[:12]] == [whole(word) for word in words[:12]]
    assert not made
    assert [merge(word) for word in words[12:]] == [whole(word) for word in words[12:]]
    assert made == [1]


def test_a_long_word_goes_to_the_library() -> None:
    word = "ab" * 60_000
    assert bpe._merge_few_or_many()(word) == bpe.merge_by(bpe.clip_bpe())(word)
