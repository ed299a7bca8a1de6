import gzip
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.vocabulary import END_ID, START_ID, VOCABULARY_SIZE, byte_alphabet, clip_vocabulary
from tests.tokenizer.reference import sam3_tokenizer


def test_tokens_are_those_of_open_clip() -> None:
    vocabulary = clip_vocabulary()
    assert len(vocabulary.tokens) == len(set(vocabulary.tokens)) == VOCABULARY_SIZE
    assert dict(zip(vocabulary.tokens, range(VOCABULARY_SIZE), strict=True)) == sam3_tokenizer().encoder
    assert {pair: rank for rank, pair in enumerate(vocabulary.merges)} == sam3_tokenizer().bpe_ranks


def test_the_shipped_merges_are_the_head_of_the_wheels_file() -> None:
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    with gzip.open(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 1 + 48_894]
    assert [f"{first} {second}" for first, second in clip_vocabulary().merges] == lines


def test_the_byte_alphabet() -> None:
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert alphabet[ord("a")] == "a"
    assert alphabet[ord(" ")] == "Ġ"


def test_closure_of_nothing_is_bytes_start_and_end() -> None:
    assert clip_vocabulary().closure([]) == {*range(512), START_ID, END_ID}


def test_closure_holds_ancestors() -> None:
    tokens = clip_vocabulary().tokens
    dog = tokens.index("dog</w>")
    names = {tokens[index] for index in clip_vocabulary().closure([dog])} - set(tokens[:512])
    assert {"dog</w>", "<start_of_text>", "<end_of_text>"} < names
    first, second = clip_vocabulary().merges[dog - 512]
    assert {first, second} - set(tokens[:512]) <= names


def pruned_tokenizer(kept: frozenset[int]) -> Tokenizer:
    """Byte-pair encoding with only the merges that make kept tokens; ids stay as they are."""
    vocabulary = clip_vocabulary()
    ids = {vocabulary.tokens[index]: index for index in kept}
    merges = [pair for rank, pair in enumerate(vocabulary.merges) if 512 + rank in kept]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


@pytest.mark.data
def test_closure_is_lossless_on_real_prompts(real_lines: list[str]) -> None:
    lines = real_lines[::7]
    sequences = clip_tokenizer().encode(lines)
    kept = clip_vocabulary().closure(set(sequences.ids.tolist()))
    assert len(kept) < VOCABULARY_SIZE
    pruned = pruned_tokenizer(kept)
    words = {piece for line in lines for piece in sam3_tokenizer().pat.findall(sam3_tokenizer().clean_fn(line))}
    for word in words:
        assert pruned.encode(word, add_special_tokens=False).ids == sam3_tokenizer().encode(word)


@given(
    st.lists(st.text(alphabet="abcdehilnorst", min_size=1, max_size=12), min_size=1, max_size=5), st.text(max_size=20)
)
@settings(max_examples=50)
def test_closure_is_lossless_and_total(words: list[str], other: str) -> None:
    kept = clip_vocabulary().closure(set(clip_tokenizer().encode(words).ids.tolist()))
    pruned = pruned_tokenizer(kept)
    for word in words:
        assert pruned.encode(word, add_special_tokens=False).ids == sam3_tokenizer().encode(word)
    text = other.replace(" ", "")
    found = pruned.encode(text, add_special_tokens=False).ids
    tokens = clip_vocabulary().tokens
    codes = {char: byte for byte, char in byte_alphabet().items()}
    spelled = "".join(tokens[index] for index in found).removesuffix("</w>")
    assert bytes(codes[char] for char in spelled).decode("utf-8") == text
