"""The micro world scored in memory equals the same world scored from its files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from litetext.evaluation.cgf1 import evaluate_gold
from litetext.evaluation.comparison import compare
from litetext.micro.evaluation import evaluate_pairs, known_pairs, overlaps
from litetext.micro.phrases import Pair, make_pairs
from litetext.micro.saco import ANNOTATIONS, write_saco
from litetext.micro.scenes import SceneOptions
from litetext.sam3.masks import Masks
from litetext.sam3.segmenter import ImageEmbedding, SegmentOptions

PAIRS = list(make_pairs(3, 60, SceneOptions(size=64, split="test")))


class Oracle:
    """Answers with the true masks, less what `spoil` does to them.

    Args:
        spoil: the share of the answers that are wrong: shifted, dropped or made up.
    """

    def __init__(self, pairs: Sequence[Pair], spoil: float) -> None:
        self.pairs, self.rng, self.spoil = pairs, np.random.default_rng(0), spoil
        self.answers: list[Masks] = []
        self.options = SegmentOptions(prompt_batch=6)

    def embed(self, image: npt.NDArray[np.uint8]) -> ImageEmbedding:
        return ImageEmbedding(image.shape[:2], image)

    def segment_embedding(self, embedding: ImageEmbedding, prompts: Sequence[str]) -> list[Masks]:
        return self(embedding.vision, prompts)

    def __call__(self, image: npt.NDArray[np.uint8], prompts: Sequence[str]) -> list[Masks]:
        asked = [pair for pair in self.pairs if pair.scene.pixels is image]
        assert [pair.phrase.text for pair in asked] == list(prompts)
        found = [self._answer(pair) for pair in asked]
        self.answers += found
        return found

    def _answer(self, pair: Pair) -> Masks:
        size = pair.scene.pixels.shape[:2]
        masks = [pair.scene.instances[index].mask for index in pair.phrase.indices]
        if self.rng.random() < self.spoil:
            masks = [np.roll(mask, 3, axis=1) for mask in masks[1:]] or [self.rng.random(size) < 0.2]
        stack = np.array(masks, dtype=bool).reshape(len(masks), *size)
        ones = np.ones(len(masks), dtype=np.float32)
        return Masks(stack, np.zeros((len(masks), 4), dtype=np.float32), ones, pair.phrase.text)


def test_the_truth_scores_100() -> None:
    scores = evaluate_pairs(Oracle(PAIRS, 0.0), PAIRS)  # type: ignore[arg-type]
    report = scores.to_json()
    assert (report["cgf1"], report["pmf1"], report["il_mcc"]) == pytest.approx((100, 100, 1), abs=0.05)
    assert report["presence_right"] == {"absent": 1.0, "hard": 1.0, "present": 1.0}
    assert json.loads(json.dumps(report))["pairs"]["all"] == 60


def test_the_same_numbers_as_from_files(tmp_path: Path) -> None:
    oracle = Oracle(PAIRS, 0.6)
    told: list[float] = []
    scores = evaluate_pairs(oracle, PAIRS, lambda _, done: told.append(done))  # type: ignore[arg-type]
    assert told == [6.0 * number for number in range(1, 11)]
    write_saco(PAIRS, tmp_path)
    found: list[dict[str, Any]] = []
    for number, masks in enumerate(oracle.answers, start=1):
        found += masks.to_coco(number, 1)
    (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")
    other = evaluate_gold([tmp_path / ANNOTATIONS], tmp_path / "found.json")
    assert 5 < scores.overall.cgf1 < 95
    assert scores.overall.presence == pytest.approx(other.presence)
    for name, curve in scores.overall.masks.items():
        assert curve == pytest.approx(other.masks[name]), name


def test_the_same_numbers_as_a_comparison() -> None:
    scores = evaluate_pairs(Oracle(PAIRS, 0.6), PAIRS).overall  # type: ignore[arg-type]
    found = compare(Oracle(PAIRS, 0.6), Oracle(PAIRS, 0.0), known_pairs(PAIRS))  # type: ignore[arg-type]
    teacher, student = found.scores
    assert len(found.tallies) == 10
    assert teacher.cgf1 == pytest.approx(scores.cgf1)
    assert teacher.mean == pytest.approx(scores.mean)
    assert student.cgf1 > 99.9 > teacher.cgf1


def test_held_out_words_are_told_apart() -> None:
    some = list(make_pairs(4, 300, SceneOptions(size=64, split="test")))
    scores = evaluate_pairs(Oracle(some, 0.0), some)  # type: ignore[arg-type]
    assert scores.held_out is not None
    held_out = sum(pair.phrase.held_out for pair in some)
    assert scores.held_out.to_json()["pairs"]["all"] == held_out > 0


def test_overlaps_by_hand() -> None:
    pair = next(pair for pair in PAIRS if len(pair.phrase.indices) == 1)
    true = pair.scene.instances[pair.phrase.indices[0]].mask
    masks = np.stack([true, ~true, np.zeros_like(true), np.ones_like(true)])
    assert overlaps(masks, pair)[:, 0].tolist() == pytest.approx([1, 0, 0, true.mean()])
    assert overlaps(masks[:0], pair).shape == (0, 1)
