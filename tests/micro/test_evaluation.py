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
from litetext.evaluation.gold import evaluate
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
    assert told == [float(number) for number in range(1, 61)]
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


def as_coco(gold: dict[str, Any], found: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Gold and results for it as LVIS has them: pictures, categories, and which are absent from a picture."""
    names = list(dict.fromkeys(pair["file_name"] for pair in gold["images"]))
    phrases = list(dict.fromkeys(pair["text_input"] for pair in gold["images"]))
    of = {pair["id"]: (names.index(pair["file_name"]), phrases.index(pair["text_input"])) for pair in gold["images"]}
    moved = [
        [{**one, **dict(zip(("image_id", "category_id"), of[one["image_id"]], strict=True))} for one in listed]
        for listed in (gold["annotations"], found)
    ]
    there = {(one["image_id"], one["category_id"]) for one in moved[0]}
    size = {"height": 64, "width": 64, "not_exhaustive_category_ids": []}
    images = [
        {
            "id": number,
            "file_name": name,
            "neg_category_ids": [c for p, c in of.values() if p == number and (p, c) not in there],
        }
        | size
        for number, name in enumerate(names)
    ]
    categories = [{"id": number, "name": phrase.replace(" ", "_")} for number, phrase in enumerate(phrases)]
    return {"images": images, "categories": categories, "annotations": moved[0]}, moved[1]


def test_the_same_numbers_as_plain_coco(tmp_path: Path) -> None:
    oracle = Oracle(PAIRS, 0.6)
    evaluate_pairs(oracle, PAIRS)  # type: ignore[arg-type]
    write_saco(PAIRS, tmp_path)
    found = [one for number, masks in enumerate(oracle.answers, start=1) for one in masks.to_coco(number, 1)]
    gold = json.loads((tmp_path / ANNOTATIONS).read_bytes())

    def scores(name: str, truth: Any, results: Any, exhaustive: bool | None = None) -> Any:
        for path, value in ((tmp_path / f"{name}.json", truth), (tmp_path / "found.json", results)):
            path.write_text(json.dumps(value), encoding="utf-8")
        return evaluate(tmp_path / "found.json", tmp_path / f"{name}.json", exhaustive=exhaustive).to_json()

    lvis, results = as_coco(gold, found)
    of_gold = scores("gold", gold, found)
    assert 5 < of_gold["cgf1"] < 95
    assert scores("lvis", lvis, results) == of_gold
    # Every category is looked for in every picture: in Gold's format that is a pair for each.
    coco = {
        **lvis,
        "images": [{key: image[key] for key in ("id", "file_name", "height", "width")} for image in lvis["images"]],
    }
    count = len(coco["categories"])
    pairs = [
        {
            **image,
            "id": image["id"] * count + category["id"],
            "text_input": category["name"],
            "is_instance_exhaustive": 1,
        }
        for image in coco["images"]
        for category in coco["categories"]
    ]
    there, predicted = (
        [{**one, "image_id": one["image_id"] * count + one["category_id"], "category_id": 1} for one in listed]
        for listed in (coco["annotations"], results)
    )
    every = scores("every", {"images": pairs, "annotations": there, "categories": [{"id": 1}]}, predicted)
    assert every["pairs"]["all"] == count * len(coco["images"]) > 60
    assert scores("coco", coco, results, exhaustive=True) == every
    only = scores("coco", coco, results, exhaustive=False)
    assert (only["pmf1"], only["il_mcc"]) == (pytest.approx(of_gold["pmf1"]), pytest.approx(0, abs=1e-3))


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
