"""COCO's average precision worked out by hand, and against pycocotools on its own files."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from litetext.errors import EvaluationError
from litetext.evaluation.average_precision import evaluate_ap
from litetext.evaluation.coco_json import encode
from litetext.micro.phrases import make_pairs
from litetext.micro.saco import ANNOTATIONS, write_saco
from litetext.micro.scenes import SceneOptions
from tests.evaluation.files import stripe, write_predictions, write_truth
from tests.evaluation.synthetic import gold_set, rectangle, rle

ONE = pytest.approx(1, abs=1e-9)  # pycocotools divides by a little more
A, B, C = stripe(0, 20), stripe(50, 70), stripe(80, 95)


def evaluate(tmp_path: Path, truth: Any, found: Any, **options: Any) -> dict[str, float]:
    return evaluate_ap(
        write_truth(tmp_path / "a.json", truth, **options), write_predictions(tmp_path / "p.json", found)
    )


def test_the_truth_itself_is_perfect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(tmp_path, {1: [A, B], 2: [C], 3: []}, [(1, B, 0.9), (1, A, 0.2), (2, C, 0.01)])
    assert (result["ap"], result["ap50"], result["ap75"], result["ap_small"], result["ar100"]) == (
        ONE,
        ONE,
        ONE,
        ONE,
        1,
    )
    assert (result["ap_medium"], result["ap_large"]) == (-1, -1)  # there are no such instances
    assert result["ar1"] == pytest.approx(2 / 3)  # one of two in the first pair
    assert capsys.readouterr() == ("", "")  # pycocotools prints its numbers


def test_no_prediction_is_nothing(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A], 2: []}, [])
    assert (result["ap"], result["ap50"], result["ar100"]) == (0, 0, 0)


def test_no_truth_is_undefined(tmp_path: Path) -> None:
    assert set(evaluate(tmp_path, {1: [], 2: []}, [(1, A, 0.9)]).values()) == {-1.0}


def test_a_false_alarm_between_two_hits(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A, B], 2: []}, [(1, A, 0.9), (2, A, 0.8), (1, B, 0.3)])
    # Precision 1 up to a recall of 1/2 (51 of the 101 points 0.00, 0.01, ...), then 2/3.
    assert result["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-9)
    assert result["ap50"] == pytest.approx(result["ap"])


def test_thresholds_of_iou(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [stripe(0, 100)]}, [(1, stripe(0, 58), 0.9)])  # IoU 0.58: good at 0.50 and 0.55
    assert (result["ap"], result["ap50"], result["ap75"]) == (pytest.approx(0.2), ONE, 0)
    result = evaluate(tmp_path, {1: [stripe(0, 100)]}, [(1, stripe(0, 78), 0.9)])  # at 0.50, 0.55, ... 0.75
    assert (result["ap"], result["ap50"], result["ap75"]) == (pytest.approx(0.6), ONE, ONE)


def test_a_missed_instance_ends_the_curve(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A], 2: [B]}, [(1, A, 0.9)])
    assert result["ap"] == pytest.approx(51 / 101, abs=1e-9)
    assert result["ar100"] == 0.5


def test_a_prediction_on_a_crowd_does_not_count(tmp_path: Path) -> None:
    found = [(1, stripe(52, 60), 0.95), (1, A, 0.9)]
    assert evaluate(tmp_path, {1: [A]}, found, crowds={1: [B]})["ap"] == ONE
    assert evaluate(tmp_path, {1: [A]}, found)["ap"] == pytest.approx(0.5, abs=1e-9)


def test_of_two_predictions_of_an_instance_one_is_wrong(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A, B]}, [(1, A, 0.9), (1, A, 0.8), (1, B, 0.7)])
    assert result["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-9)


def test_ties_go_by_the_file_within_a_pair_and_by_the_number_between_pairs(tmp_path: Path) -> None:
    assert evaluate(tmp_path, {1: [A]}, [(1, A, 0.5), (1, B, 0.5)])["ap"] == ONE
    assert evaluate(tmp_path, {1: [A]}, [(1, B, 0.5), (1, A, 0.5)])["ap"] == pytest.approx(0.5, abs=1e-9)
    assert evaluate(tmp_path, {2: [], 1: [A]}, [(2, A, 0.5), (1, A, 0.5)])["ap"] == ONE
    assert evaluate(tmp_path, {2: [A], 1: []}, [(2, A, 0.5), (1, A, 0.5)])["ap"] == pytest.approx(0.5, abs=1e-9)


def test_poor_predictions_lengthen_the_curve(tmp_path: Path) -> None:
    truth = {1: [A], 2: [B]}
    assert evaluate(tmp_path, truth, [(1, A, 0.9), (2, B, 0.001)])["ap"] == ONE


def test_areas_are_pixels_of_the_mask(tmp_path: Path) -> None:
    size = (200, 200)
    boxes = {"small": (0, 0, 31, 31), "medium": (40, 40, 80, 80), "large": (100, 100, 200, 200)}
    masks = {name: rle(rectangle(size, *box)) for name, box in boxes.items()}
    images = [{"id": 1, "height": 200, "width": 200, "is_instance_exhaustive": 1}]
    # As in Gold: the area is a share of the image, so that every instance would be small.
    annotations = [
        {"id": index, "image_id": 1, "category_id": 1, "area": 0.01, "segmentation": mask, "iscrowd": 0}
        for index, mask in enumerate(masks.values())
    ]
    truth = tmp_path / "a.json"
    truth.write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")
    found = write_predictions(tmp_path / "p.json", [(1, masks["medium"], 0.9)])
    result = evaluate_ap(truth, found)
    assert (result["ap_small"], result["ap_medium"], result["ap_large"]) == (0, ONE, 0)


def test_pairs_that_are_not_exhaustive_do_not_count(tmp_path: Path) -> None:
    assert evaluate(tmp_path, {1: [A], 2: [A]}, [(1, A, 0.8), (2, B, 0.9)], partial=[2])["ap"] == ONE


def test_the_micro_world_as_its_own_prediction(tmp_path: Path) -> None:
    gold = write_saco(make_pairs(1, 12, SceneOptions(size=96, split="test")), tmp_path)
    listed = [
        {"image_id": one["image_id"], "score": 0.3, "segmentation": one["segmentation"]} for one in gold["annotations"]
    ]
    (tmp_path / "p.json").write_text(json.dumps(listed), encoding="utf-8")
    result = evaluate_ap(tmp_path / ANNOTATIONS, tmp_path / "p.json")
    assert (result["ap"], result["ap75"], result["ar100"]) == (ONE, ONE, ONE)


def test_another_size_matches_nothing(tmp_path: Path) -> None:
    assert evaluate(tmp_path, {1: [A]}, [(1, rle(rectangle((5, 5), 0, 0, 5, 5)), 0.9)])["ap"] == 0


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="predictions for unknown pairs: 1, one is 9"):
        evaluate(tmp_path, {1: [A]}, [(9, A, 0.9)])


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    truth, found = write_truth(tmp_path / "a.json", {1: [A]}), write_predictions(tmp_path / "p.json", [])
    evaluate_ap(truth, found, lambda stage, share: told.append((stage, share)))
    assert told == [("average precision", 0.0), ("average precision", 1.0)]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_pycocotools_says_of_the_files(tmp_path: Path, seed: int) -> None:
    (truth,), found = gold_set(seed, 40, 1, tmp_path)
    document = json.loads(truth.read_text(encoding="utf-8"))
    for image in document["images"]:
        image["is_instance_exhaustive"] = 1
    for annotation in document["annotations"]:
        annotation["category_id"] = 1
        annotation["area"] = _area(annotation, document)
    truth.write_text(json.dumps(document), encoding="utf-8")
    listed = [{**one, "category_id": 1} for one in json.loads(found.read_text(encoding="utf-8"))]
    rng = np.random.default_rng(seed)
    for one in listed:
        one["score"] = float(rng.choice([0.1, 0.3, 0.5, 0.7]))  # many ties
    found.write_text(json.dumps(listed), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        oracle = COCOeval(coco, coco.loadRes(str(found)), "segm")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    ours = list(evaluate_ap(truth, found).values())
    assert 0 < ours[0] < 1
    np.testing.assert_allclose(ours, oracle.stats[:9], atol=1e-12, rtol=0)


def _area(annotation: dict[str, Any], document: dict[str, Any]) -> int:
    image = next(one for one in document["images"] if one["id"] == annotation["image_id"])
    return int(coco_mask.area(encode(annotation["segmentation"], (image["height"], image["width"]), "")))
