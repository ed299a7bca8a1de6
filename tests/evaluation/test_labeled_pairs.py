"""Pairs of files: the same numbers as `evaluate gold` counts on them, each picture once, mistakes named early."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import EvaluationError, ImageError
from litetext.evaluation.cgf1 import SCORE_THRESHOLD, evaluate_gold
from litetext.evaluation.coco import read_predictions
from litetext.evaluation.comparison import compare, report_retention
from litetext.evaluation.labeled_pairs import GoldPairs
from litetext.sam3.masks import Masks, decode_masks
from litetext.sam3.segmenter import ImageEmbedding, SegmentOptions
from tests.evaluation.contests import as_masks
from tests.evaluation.synthetic import gold_set


class Replay:
    """Answers "thing 17" with the predictions of the pair 17."""

    def __init__(self, found: Path) -> None:
        self.found = read_predictions(found, SCORE_THRESHOLD)
        self.options = SegmentOptions(prompt_batch=3)
        self.embedded = 0

    def embed(self, image: Image.Image) -> ImageEmbedding:
        self.embedded += 1
        return ImageEmbedding((image.height, image.width), None)

    def segment_embedding(self, embedding: ImageEmbedding, prompts: Sequence[str]) -> list[Masks]:
        codes: list[Any] = [self.found.masks.get(int(prompt.split()[1]), ()) for prompt in prompts]
        return [
            as_masks(decode_masks(some, embedding.size), prompt) for some, prompt in zip(codes, prompts, strict=True)
        ]


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[Path], Path]:
    """Three annotators, sixty pairs on three pictures, predictions."""
    files, found = gold_set(5, 60, 3, tmp_path)
    for file in files:
        document = json.loads(file.read_bytes())
        for entry in document["images"]:
            size = (entry["width"], entry["height"])
            entry["file_name"] = f"{size[0]}.png"
            Image.new("RGB", size).save(tmp_path / entry["file_name"])
        file.write_text(json.dumps(document), encoding="utf-8")
    return files, found


@pytest.mark.parametrize("annotators", [1, 3])
def test_the_same_numbers_as_of_predictions(written: tuple[list[Path], Path], annotators: int, tmp_path: Path) -> None:
    files, found = written[0][:annotators], written[1]
    pairs, segmenter = GoldPairs.read(files, [tmp_path]), Replay(found)
    comparison = compare(segmenter, segmenter, pairs)  # type: ignore[arg-type]
    size = EncoderSize("x", 1, 1)
    report = report_retention(comparison, size, size)
    whole = evaluate_gold(files, found)
    scores, _ = comparison.scores
    assert {**scores.to_json(), "raw": 0, "pairs": 0} == pytest.approx({**whole.to_json(), "raw": 0, "pairs": 0})
    assert scores.to_json()["raw"] == pytest.approx(whole.to_json()["raw"], abs=1e-12)
    assert scores.tally.hits.tolist() == whole.tally.hits.tolist()
    assert len(pairs) == int(whole.tally.present.sum()) == len(comparison.agreements) < 60
    assert segmenter.embedded == len(comparison.tallies) == 3
    assert report["retention"]["cgf1"] == 100


def test_mistakes_are_found_before_any_picture_is_read(written: tuple[list[Path], Path], tmp_path: Path) -> None:
    files, _ = written
    with pytest.raises(EvaluationError, match=r"no such file, nowhere\.json"):
        GoldPairs.read([files[0], Path("nowhere.json")], [tmp_path])
    with pytest.raises(EvaluationError, match="no ground truth"):
        GoldPairs.read([], [tmp_path])
    with pytest.raises(ImageError, match="no such folder"):
        GoldPairs.read(files, [tmp_path / "nowhere"])
    (tmp_path / "64.png").unlink()
    with pytest.raises(ImageError, match=r"1 of 3 pictures are missing, the first is '64\.png'"):
        GoldPairs.read(files, [tmp_path])


def test_a_picture_of_another_size(written: tuple[list[Path], Path], tmp_path: Path) -> None:
    pairs = GoldPairs.read(written[0], [tmp_path])
    Image.new("RGB", (5, 5)).save(tmp_path / "64.png")
    with pytest.raises(ImageError, match="5 x 5 pixels where the annotations have 64 x 48"):
        list(pairs)
