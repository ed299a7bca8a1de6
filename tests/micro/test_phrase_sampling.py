"""The corpus of the micro world: all its nouns, nothing twice, nothing held out, always the same."""

import re

import pytest

pytest.importorskip("torch")

from litetext.errors import OptionError
from litetext.micro.concepts import held_out_nouns, spoken_nouns
from litetext.micro.phrases import out_of_domain, sample_phrases

LEAST = len({*spoken_nouns(), *out_of_domain("train")})


def test_everything_is_said_once_and_nothing_held_out() -> None:
    texts = sample_phrases(0, LEAST + 1500)
    assert len(texts) == len(set(texts)) == LEAST + 1500
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
    assert sample_phrases(1, LEAST + 50) == sample_phrases(1, LEAST + 50)
    assert set(sample_phrases(1, LEAST + 50)) != set(sample_phrases(2, LEAST + 50))


def test_few_strange_ones() -> None:
    texts = sample_phrases(0, 600, 20)
    assert len(texts) == 600
    assert len(set(out_of_domain("train")) & set(texts)) == 20
    assert set(spoken_nouns()) <= set(texts)


def test_too_few_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=f"ask for {LEAST} or more"):
        sample_phrases(0, 10)
    with pytest.raises(OptionError, match="seed -1"):
        sample_phrases(-1, LEAST + 1)
    monkeypatch.setattr("litetext.micro.phrases.speak", lambda _: "a car")
    with pytest.raises(OptionError, match=f"it has about {LEAST + 1}"):
        sample_phrases(0, LEAST + 2)
