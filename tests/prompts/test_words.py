"""Words of a phrase are told apart, and permutations keep what holds it together."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.prompts.words import (
    FUNCTION_WORDS,
    arrangements,
    content_positions,
    is_word,
    permute_content,
    relation_positions,
    split_words,
)

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
