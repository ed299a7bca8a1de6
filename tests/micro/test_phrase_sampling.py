"""The corpus of the micro world: all its nouns, nothing twice, nothing held out, always the same."""

import re

import pytest

pytest.importorskip("torch")

from litetext.errors import OptionError
from litetext.micro.concepts import held_out_nouns, spoken_nouns
from litetext.micro.phrases import out_of_domain, sample_phrases


def test_everything_is_said_once_and_nothing_held_out() -> None:
    count = len(out_of_domain("train")) + len(spoken_nouns()) + 1000
    texts = sample_phrases(0, count, len(out_of_domain("train")))
    assert len(texts) == len(set(texts)) == count
    assert set(spoken_nouns()) <= set(texts)
    assert set(out_of_domain("train")) <= set(texts)
    assert not set(out_of_domain("test")) & set(texts)
    assert not held_out_nouns() & set(texts)
    rest = [text for text in texts if text not in spoken_nouns() and text not in out_of_domain("train")]
    assert sum("red " in text for text in rest) > 30
    assert sum(bool(re.search(r"on the left|at the left", text)) for text in rest) > 20
    assert not any(
        re.search(rf"\b{re.escape(noun)}\b", text) for text in rest[:300] for noun in held_out_nouns() if " " in noun
    )


def test_a_seed_gives_the_same_words() -> None:
    assert sample_phrases(1, 700) == sample_phrases(1, 700)
    assert set(sample_phrases(1, 700)) != set(sample_phrases(2, 700))


@pytest.mark.parametrize("count", [1, 60, 1000])
def test_a_small_corpus_is_mostly_about_the_world(count: int) -> None:
    texts = sample_phrases(0, count)
    assert len(set(texts)) == count
    assert 0.9 * (count // 5) <= len(set(out_of_domain("train")) & set(texts)) <= count // 5  # some are named twice
    assert (set(spoken_nouns()) <= set(texts)) == (count == 1000)


def test_few_strange_ones() -> None:
    texts = sample_phrases(0, 600, 20)
    assert len(texts) == 600
    assert len(set(out_of_domain("train")) & set(texts)) == 20
    assert set(spoken_nouns()) <= set(texts)


def test_too_few_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="ask for 1 or more"):
        sample_phrases(0, 0)
    with pytest.raises(OptionError, match="seed -1"):
        sample_phrases(-1, 9)
    monkeypatch.setattr("litetext.micro.phrases.speak", lambda _: "a car")
    said = len(spoken_nouns()) + 20
    with pytest.raises(OptionError, match=f"it has about {said + 1}"):
        sample_phrases(0, said + 2, 20)
