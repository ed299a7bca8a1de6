"""Words of a phrase are told apart, and permutations keep what holds it together."""

import math
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.prompts.words import (
    ARTICLES,
    BINDING_WORDS,
    FUNCTION_WORDS,
    arrangements,
    content_positions,
    is_bound,
    is_word,
    permute,
    permute_content,
    relation_positions,
    split_words,
)
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import clean

WORDS = st.lists(st.sampled_from(["a", "of", "on", "left", "dog", "dog's", "red", "red", "2nd", ",", "behind", "top"]))


def content(text: str) -> list[str]:
    words = split_words(text)
    return [words[position] for position in content_positions(words)]


def test_words_and_punctuation_are_told_apart() -> None:
    items = ["cloud", "on", "left", ",", "above", "t-shirt", "(", "1.5", "m", ")", "."]
    assert split_words("cloud on left,above t-shirt (1.5 m).") == items
    assert [item for item in items if not is_word(item)] == [",", "(", ")", "."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the red car", ["red", "car"]),
        ("man, left", ["man", "left"]),
        ("2nd guy from the left", ["2nd", "guy", "left"]),
        ("Dog LEFT OF the Cat", ["Dog", "Cat"]),
        ("cup on top of the table in front of a man", ["cup", "table", "man"]),
        ("top of tree", ["top", "tree"]),
        ("left side of house", ["house"]),
        ("हिन्दी शब्द", ["हिन्दी", "शब्द"]),
        ("of the , ...", []),
        ("", []),
    ],
)
def test_content_words(text: str, expected: list[str]) -> None:
    assert content(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog next to cat", [1, 2]),
        ("dog on top of cat", [1, 2, 3]),
        ("left side of house", [0, 1, 2]),
        ("behind inside of", [0, 1, 2]),
        ("dog next", []),
        ("left dog", []),
        ("woman in blue", []),
    ],
)
def test_relations(text: str, expected: list[int]) -> None:
    assert relation_positions(split_words(text)) == expected


@pytest.mark.parametrize(("words", "expected"), [("", 1), ("a", 1), ("aa", 1), ("ab", 2), ("aab", 3), ("aabb", 6)])
def test_arrangements_against_enumeration(words: str, expected: int) -> None:
    assert arrangements(words) == len(set(permutations(words))) == expected


@given(WORDS, st.integers(0, 2**32), st.integers(0, 30))
def test_permutations_move_content_words_only(words: list[str], seed: int, limit: int) -> None:
    orders = permute_content(words, np.random.default_rng(seed), limit)
    places = content_positions(words)
    given_words = [words[place] for place in places]
    assert len(orders) == min(limit, arrangements(given_words) - 1)
    assert len(set(map(tuple, orders))) == len(orders)
    for order in orders:
        assert order != words
        assert Counter(order) == Counter(words)
        for place, (old, new) in enumerate(zip(words, order, strict=True)):
            if place not in places:
                assert old == new
            if old in FUNCTION_WORDS:
                assert old == new


def test_all_orders_come_when_the_limit_allows() -> None:
    orders = permute_content(["the", "big", "red", "dog"], np.random.default_rng(0), 100)
    assert {tuple(order) for order in orders} == {
        ("the", *rest) for rest in permutations(("big", "red", "dog")) if rest != ("big", "red", "dog")
    }


def test_equal_words_are_no_permutation() -> None:
    assert permute_content(["dog", "and", "dog"], np.random.default_rng(0), 4) == []
    assert permute_content(["dog", "dog", "cat"], np.random.default_rng(0), 4) != []


def test_orders_are_equally_likely() -> None:
    generator = np.random.default_rng(0)
    drawn = Counter(tuple(permute_content(["a1", "b1", "c1"], generator, 1)[0]) for _ in range(5000))
    assert len(drawn) == 5
    assert all(abs(count - 1000) < 5 * math.sqrt(800) for count in drawn.values())


PHRASE_WORDS = [
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


@given(st.lists(st.sampled_from(PHRASE_WORDS), max_size=7), st.integers(0, 2**32))
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
