"""Phrases that are spelt alike."""

import tracemalloc
from difflib import SequenceMatcher

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.features import fuzzy as nearest
from litetext.features.fuzzy import nearest_phrases
from litetext.prompts.bundled import bundled_corpus


def ask(asked: str, phrases: list[str], count: int = 5) -> list[str]:
    data = [phrase.encode() for phrase in phrases]
    offsets = np.cumsum([0, *map(len, data)])
    # Three zero bytes stand behind the last, as in a bank.
    found = nearest_phrases(asked.encode(), np.frombuffer(b"".join(data) + b"\0\0\0", np.uint8), offsets, count)
    return [phrase.decode() for phrase in found]


def test_known_answers() -> None:
    phrases = ["red car", "white dog", "black dog", "", "a", "dog", "doghouse", "café"]
    assert ask("whit dog", phrases)[0] == "white dog"
    assert ask("dogs", phrases, 2) == ["dog", "doghouse"]
    assert ask("cafe", phrases, 1) == ["café"]
    assert ask("zzz", ["dog", "cat"]) == ["dog", "cat"]  # nothing is alike: any
    assert ask("dog", ["cat", "cot"]) == ["cot"]
    assert ask("", phrases, 1) == [""]
    assert ask("x" * 5000, phrases, 1)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=70, unique=True), st.text(max_size=12), st.integers(1, 64))
def test_chunks_change_nothing_and_a_known_phrase_finds_itself(phrases: list[str], asked: str, chunk: int) -> None:
    whole = ask(asked, phrases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_CHUNK", chunk)
        assert ask(asked, phrases) == whole
    assert set(whole) <= set(phrases)
    for phrase in phrases:
        if len(phrase) > 1:
            assert ask(phrase, phrases)[0] == phrase


def pairs(phrase: bytes) -> list[bytes]:
    return [phrase[at : at + apart + 1 : apart] for apart in (1, 2) for at in range(len(phrase) - apart)]


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=20), st.binary(max_size=6))
def test_scores_are_those_of_counting(phrases: list[bytes], asked: bytes) -> None:
    offsets = np.cumsum([0, *map(len, phrases)])
    text = np.frombuffer(b"".join(phrases) + bytes(3), np.uint8)
    found = nearest._share_of_pairs(text, offsets, nearest._pairs_of(asked), len(asked))
    shared = [sum(pair in pairs(asked) for pair in pairs(phrase)) for phrase in phrases]
    assert found.tolist() == [
        count / max(1, len(asked) + len(phrase)) for count, phrase in zip(shared, phrases, strict=True)
    ]


def test_the_shortlist_hardly_misses_what_is_nearest() -> None:
    """Phrases with two letters swapped, against comparing all of them letter by letter."""
    phrases = list(bundled_corpus().texts[:2000])
    hits = 0
    for number in range(0, 2000, 100):
        phrase = phrases[number]
        at = len(phrase) // 2
        asked = phrase[: at - 1] + phrase[at] + phrase[at - 1] + phrase[at + 1 :]
        best = max(SequenceMatcher(None, asked, one, autojunk=False).ratio() for one in phrases)
        found = ask(asked, phrases, 1)[0]
        hits += SequenceMatcher(None, asked, found, autojunk=False).ratio() == best
    assert hits >= 19


def test_memory_does_not_grow_with_the_phrases() -> None:
    text = np.tile(np.frombuffer(b"a white dog on the left of it!!!", np.uint8), 200_000)
    offsets = np.arange(0, len(text) + 1, 32)
    tracemalloc.start()
    nearest_phrases(b"a withe dog", text, offsets, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) == 6_400_000
    assert peak < 4_000_000


@pytest.mark.parametrize("offsets", [[0, 5, 3], [10**12, 10**12], [-1, 2], [0, 99]])
def test_offsets_that_lead_nowhere(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="do not part"):
        nearest_phrases(b"dog", np.zeros(8, np.uint8), np.array(offsets), 5)
