from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import OptionError, PromptError
from litetext.prompts.corpus import Prompt, PromptCorpus, bundled_corpus
from litetext.tokenizer.clean import clean

prompts = st.lists(
    st.builds(
        Prompt, st.text(alphabet="abAB &;amp\u00a0é", max_size=8), st.integers(1, 5), st.sampled_from(["x", "y"])
    ),
    min_size=1,
    max_size=30,
)


def test_counts_what_the_tokenizer_sees() -> None:
    corpus = PromptCorpus.build([Prompt("White  Dog", 2, "a"), Prompt("cat", 1, "a"), Prompt("white dog", 3, "b")])
    assert corpus.texts == ("white dog", "cat")
    assert corpus.sources == ("a", "b")
    np.testing.assert_array_equal(corpus.counts, [[2, 1], [3, 0]])
    np.testing.assert_array_equal(corpus.occurrences, [5, 1])
    assert (len(corpus), corpus.total) == (2, 6)
    assert list(corpus) == [Prompt("white dog", 2, "a"), Prompt("cat", 1, "a"), Prompt("white dog", 3, "b")]


def test_text_whose_cleaning_is_not_final_is_kept_as_it_was() -> None:
    nested = "<&amp;amp;amp;lt;b"  # ftfy leaves entities alone beside a "<", so that two levels remain
    assert clean(clean(nested)) != clean(nested)
    assert PromptCorpus.build([Prompt(nested)]).texts == (nested,)


@given(prompts)
def test_building_keeps_every_occurrence(given_prompts: list[Prompt]) -> None:
    corpus = PromptCorpus.build(given_prompts)
    assert corpus.total == sum(prompt.count for prompt in given_prompts)
    assert {clean(text) for text in corpus.texts} == {clean(prompt.text) for prompt in given_prompts}
    assert len({clean(text) for text in corpus.texts}) == len(corpus)
    again = PromptCorpus.build(corpus)
    assert again.fingerprint == corpus.fingerprint


@given(prompts, st.randoms())
def test_the_fingerprint_ignores_order_and_source(given_prompts: list[Prompt], random: object) -> None:
    shuffled = [Prompt(prompt.text, prompt.count, "elsewhere") for prompt in given_prompts]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert PromptCorpus.build(shuffled).total == PromptCorpus.build(given_prompts).total
    stable = [prompt for prompt in given_prompts if clean(clean(prompt.text)) == clean(prompt.text)]
    if stable:
        moved = [Prompt(prompt.text, prompt.count, "elsewhere") for prompt in reversed(stable)]
        assert PromptCorpus.build(moved).fingerprint == PromptCorpus.build(stable).fingerprint


def test_the_fingerprint_sees_text_and_counts() -> None:
    found = {PromptCorpus.build(given_prompts).fingerprint for given_prompts in (
        [Prompt("dog")], [Prompt("dog", 2)], [Prompt("cat")], [Prompt("dog"), Prompt("cat")], [Prompt("dog cat")]
    )}  # fmt: skip
    assert len(found) == 5


@given(prompts, st.integers(-5, 5))
def test_a_split_parts_the_phrases(given_prompts: list[Prompt], seed: int) -> None:
    corpus = PromptCorpus.build(given_prompts)
    parts = corpus.split({"train": 0.6, "val": 0.4}, seed)
    texts = [text for part in parts.values() for text in part.texts]
    assert sorted(texts) == sorted(corpus.texts)
    assert sum(part.total for part in parts.values()) == corpus.total


def test_a_phrase_stays_in_its_part_when_the_corpus_grows() -> None:
    small = PromptCorpus.build(Prompt(f"dog {index}") for index in range(200))
    large = PromptCorpus.build(Prompt(f"dog {index}") for index in reversed(range(2000)))
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    for name, part in small.split(shares, seed=7).items():
        assert set(part.texts) <= set(large.split(shares, seed=7)[name].texts)
    sizes = [len(part) for part in large.split(shares, seed=7).values()]
    np.testing.assert_allclose(sizes, [1600, 200, 200], atol=60)
    assert large.split(shares, seed=8)["val"].texts != large.split(shares, seed=7)["val"].texts


def test_selection_drops_sources_without_a_row() -> None:
    corpus = PromptCorpus.build([Prompt("a", 1, "x"), Prompt("b", 1, "y")])
    assert corpus.select(np.array([1])).sources == ("y",)


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}])
def test_bad_shares(shares: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="are not positive with sum 1"):
        PromptCorpus.build([Prompt("dog")]).split(shares)


def test_no_prompts() -> None:
    with pytest.raises(PromptError, match="no prompts"):
        PromptCorpus.build([])


def test_counts_must_fit() -> None:
    with pytest.raises(ValueError, match="for 1 sources, 2 texts"):
        PromptCorpus(("a", "b"), np.ones((1, 1), dtype=np.int64), ("x",))


def test_strings_are_prompts_that_count_once() -> None:
    for texts in (["cat", "dog", "Cat"], (text for text in ("cat", "dog", "cat"))):
        corpus = PromptCorpus.build(texts)
        assert (corpus.texts, corpus.occurrences.tolist()) == (("cat", "dog"), [2, 1])


@pytest.mark.parametrize(
    "wrong",
    ["cat", b"cat", None, 3, [None], [3], [Prompt("cat", 0)], [Prompt("cat", -2)], [Prompt(None)], ["\ud83d"]],  # type: ignore[arg-type]
)
def test_what_is_no_prompt(wrong: Any) -> None:
    with pytest.raises(OptionError):
        PromptCorpus.build(wrong)


def test_more_occurrences_than_64_bits_can_count() -> None:
    with pytest.raises(PromptError, match="occurrences"):
        PromptCorpus.build([Prompt("cat", 10**17)] * 100)


def test_the_bundled_corpus_is_small_and_real() -> None:
    corpus = bundled_corpus()
    assert len(corpus) > 4500
    assert {"white cane", "fire engine", "person", "traffic light"} <= set(corpus.texts)
    assert corpus.sources == tuple(
        f"bundled/{name}" for name in ("coco", "emoji", "lvis", "objects365", "odinw", "openimages")
    )
    folder = files("litetext.prompts").joinpath("data")
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 300_000


def test_every_source_is_in_the_notice() -> None:
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    for name in (
        "LVIS",
        "COCO",
        "Objects365",
        "Open Images",
        "ODinW",
        "CLDR",
        "bpe_simple_vocab_16e6",
        "Noto Color Emoji",
    ):
        assert name in notice
