"""A data set as `litetext segment` writes it, scored as the same COCO results."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.errors import EvaluationError
from litetext.evaluation.average_precision import evaluate_ap
from litetext.evaluation.cgf1 import evaluate_gold
from tests.evaluation.files import SIDE, stripe, write_predictions

A, B, C = stripe(0, 20), stripe(50, 70), stripe(0, 16)
PAIRS = ((7, "a.jpg", "dog"), (8, "sub/a.jpg", "dog"), (9, "a.jpg", "cat"))


def write_gold(path: Path, pairs: Any = PAIRS) -> Path:
    """The masks A of the first pair and B of the second."""
    size = {"height": SIDE, "width": SIDE, "is_instance_exhaustive": 1}
    images = [{"id": pair, "file_name": name, "text_input": phrase, **size} for pair, name, phrase in pairs]
    masks = [{"image_id": pair, "segmentation": mask} for pair, mask in ((7, A), (8, B))]
    path.write_text(json.dumps({"images": images, "annotations": masks}), encoding="utf-8")
    return path


def data_set(**changed: Any) -> dict[str, Any]:
    images = [{"id": 1, "file_name": "photos/sub/a.jpg"}, {"id": 2, "file_name": "photos/a.jpg"}]
    found = [(2, 5, C, 0.9), (1, 5, B, 0.7), (2, 6, A, 0.6), (1, 6, A, 0.9)]  # the last was not asked
    return {
        "images": [*images, {"id": 3, "file_name": "photos/other.jpg"}],
        "categories": [{"id": 5, "name": "dog"}, {"id": 6, "name": "cat"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "segmentation": mask, "score": score}
            for number, (image, category, mask, score) in enumerate(found, start=1)
        ],
        "failures": [],
        **changed,
    }


def test_the_same_scores_as_of_results(tmp_path: Path) -> None:
    gold = write_gold(tmp_path / "gold.json")
    ours = tmp_path / "annotations.json"
    ours.write_text(json.dumps(data_set()), encoding="utf-8")
    results = write_predictions(tmp_path / "p.json", [(7, C, 0.9), (8, B, 0.7), (9, A, 0.6)])
    results.write_text(results.read_text().replace('"category_id": 1, ', ""))
    found = evaluate_gold([gold], ours)
    assert found.tally.present.tolist() == [2, 1, 0, 0]
    assert found.to_json() == evaluate_gold([gold], results).to_json()
    assert evaluate_ap(gold, ours) == evaluate_ap(gold, results)


@pytest.mark.parametrize(
    ("pairs", "changed", "message"),
    [
        (PAIRS, {"categories": [{"id": 5, "name": "dog"}], "annotations": []}, "not in it: 1, one is 9"),
        (PAIRS, {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}, "not in it: 1, one is 8"),
        (PAIRS, {"images": [{"id": 1, "file_name": "x/a.jpg"}, {"id": 2, "file_name": "a.jpg"}]}, "two of its images"),
        (PAIRS, {"categories": [{"id": 5, "name": "dog"}, {"id": 6, "name": "dog"}]}, "two of its categories"),
        (PAIRS, {"categories": [{"id": 5, "name": "dog"}, {"id": 5, "name": "cat"}]}, "the id 5 is there twice"),
        (PAIRS, {"annotations": [{"image_id": 9, "category_id": 5}]}, "no image or category has its id"),
        (PAIRS, {"annotations": [{"image_id": 1, "category_id": 5}]}, "no 'score'"),
        (PAIRS, {"categories": 3}, "no list 'categories'"),
        ((*PAIRS, (10, "a.jpg", "cat")), {}, "the pairs 9 and 10 have one picture and phrase"),
    ],
)  # fmt: skip
def test_names_that_do_not_tell_the_pair(tmp_path: Path, pairs: Any, changed: dict[str, Any], message: str) -> None:
    gold = write_gold(tmp_path / "gold.json", pairs)
    ours = tmp_path / "annotations.json"
    ours.write_text(json.dumps(data_set(**changed)), encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        evaluate_gold([gold], ours)
