"""Phrases move their content words where that changes no meaning, uniformly, and never into themselves."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.prompts.permutations import BINDING_WORDS, is_bound, permute
from litetext.prompts.words import ARTICLES, FUNCTION_WORDS, split_words
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import clean

WORDS = [
    "a",
    "the",
    "red",
    "Red",
    "big",
    "dog",
    "dog's",
    "t-shirt",
    "2nd",
    "1",
    "11",
    "can",
    "of",
    "&amp;",
    ",",
    ".",
    "é",
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(text: str, number: int) -> Counter[str | None]:
    generator = rng()
    return Counter(permute(text, generator) for _ in range(number))


@pytest.mark.parametrize(
    ("text", "permuted"),
    [
        ("red car", "car red"),
        ("the red car", "the car red"),
        ("The  RED\tcar.", "the car red ."),
        ("a man, ", None),
        ("bathroom trash can", "trash bathroom can"),
        ("player 10", "10 player"),
        ("the drinking glass", "the glass drinking"),
        ("zebra crossing", "crossing zebra"),
    ],
)
def test_two_content_words_have_one_other_order(text: str, permuted: str | None) -> None:
    assert permute(text, rng()) == permuted


@pytest.mark.parametrize(
    "text",
    [
        *("car", "the car", "", "...", "of the", "dog dog", "the Dog dog DOG", "dog DOG"),
        *("dog left of cat", "cup on table", "woman in blue", "man with hat", "dog behind car", "dog next to cat"),
        *("man holding cup", "red car and blue bus", "man, left", "red car: blue", '"red" car', "person's red hat"),
        *("boys' red hat", "dog’s red bed", "one that is red", "his red car", "not red car", "man opposite dog"),
        *("2nd car row 3", "1 11", "dog facing cat", "bags OF Grape", "bigger dog than cat"),
    ],
)
def test_no_permutation(text: str) -> None:
    assert {permute(text, rng(seed)) for seed in range(5)} == {None}


def test_the_orders_of_three_words_are_equally_likely() -> None:
    found = drawn("the small red dog", 5000)
    others = {"small dog red", "red small dog", "red dog small", "dog small red", "dog red small"}
    assert set(found) == {f"the {order}" for order in others}
    assert all(abs(count - 1000) < 5 * math.sqrt(800) for count in found.values())


def test_repeated_words_are_not_told_apart() -> None:
    # aab, aba, baa: two others, though 4 of the 6 permutations of three places lead there.
    found = drawn("red red dog", 4000)
    assert set(found) == {"red dog red", "dog red red"}
    assert all(abs(count - 2000) < 5 * math.sqrt(1000) for count in found.values())


@given(st.lists(st.sampled_from(WORDS), max_size=7), st.integers(0, 2**32))
def test_never_the_same_tokens_but_always_the_same_words(words: list[str], seed: int) -> None:
    text = " ".join(words)
    permuted = permute(text, rng(seed))
    assert permuted == permute(text, rng(seed))
    if permuted is None:
        return
    before, after = (ids.tolist() for ids in clip_tokenizer().encode([text, permuted]))
    assert before != after
    assert sorted(before) == sorted(after)
    # "." and "," are parted from their word, so that places are those of the items of both.
    old, new = split_words(clean(text)), permuted.split()
    assert Counter(old) == Counter(new)
    assert all(word == new[place] for place, word in enumerate(old) if word in FUNCTION_WORDS)


def test_articles_bind_nothing_and_relations_do() -> None:
    assert not BINDING_WORDS & set(ARTICLES.split())
    assert {"on", "in", "with", "behind", "of", "to", "and", "than"} <= BINDING_WORDS
    assert "can" not in BINDING_WORDS
    assert is_bound(split_words("a ( b ) c"))
    assert not is_bound(split_words("a b !"))


@pytest.mark.data
def test_share_of_the_phrases_of_a_benchmark(data_folder: Path) -> None:
    lines = (data_folder / "prompts" / "saco_veval_used.txt").read_text(encoding="utf-8").splitlines()
    generator = rng()
    permuted = [permute(line, generator) for line in lines]
    assert not any(line == order for line, order in zip(lines, permuted, strict=True))
    assert (len(lines), sum(order is not None for order in permuted)) == (5184, 3043)
