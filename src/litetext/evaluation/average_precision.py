"""COCO's average precision of masks, on the files of SA-Co Gold, through pycocotools.

Each (image, phrase) pair is an image of COCO's, and there is one category. Source: COCO's detection evaluation.
"""

import contextlib
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from litetext.evaluation.cgf1 import Progress, choose_pairs
from litetext.evaluation.coco import read_annotations, read_predictions
from litetext.sam3.masks import Code

_CATEGORY = 1
# At IoU 0.50:0.05:0.95, at 0.5, at 0.75; of instances below 32 x 32 pixels, between, above 96 x 96; average recall with
# one, ten, a hundred predictions a pair. No score looks at more than a hundred.
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


def evaluate_ap(truth: Path, predictions: Path, progress: Progress | None = None) -> dict[str, float]:
    """Average precision of predictions of all scores, against one annotator.

    Non-exhaustive pairs are left out. A prediction on a crowd is neither right nor wrong. Areas are counted in the
    masks: those of Gold's files are shares of the image.

    Args:
        truth: the ground truth of an annotator, COCO JSON of (image, phrase) pairs.
        predictions: COCO results. Predictions that were cut at a score leave the curve short: keep poor ones too.
        progress: called with the stage and the share done, 0..1.

    Returns:
        `STATS` by name, each from 0 to 1; -1 where there is no instance of that size.
    """
    annotator = read_annotations(truth)
    predicted = read_predictions(predictions, -math.inf, annotator)
    # COCO goes through images by their numbers; where scores tie, the order decides: numbers first, then names.
    numbers = sorted(choose_pairs([annotator], predicted), key=lambda pair: (isinstance(pair, str), pair))
    pairs = list(enumerate(numbers))
    if progress is not None:
        progress("average precision", 0.0)
    true = _annotations((number, code, {"iscrowd": 0}) for number, pair in pairs for code in annotator.codes(pair))
    crowds = ((number, code, {"iscrowd": 1}) for number, pair in pairs for code in annotator.crowd_codes(pair))
    true += _annotations(crowds, first=len(true) + 1)
    results = _annotations(
        (number, code, {"score": score})
        for number, pair in pairs
        for code, score in zip(predicted.codes(pair, annotator.size(pair)), predicted.scores.get(pair, ()), strict=True)
    )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints; standard output is ours
        run = COCOeval(_dataset(len(pairs), true), _dataset(len(pairs), results), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    if progress is not None:
        progress("average precision", 1.0)
    return {name: float(value) for name, value in zip(STATS, run.stats, strict=False)}


def _dataset(images: int, annotations: list[dict[str, Any]]) -> COCO:
    """The object that pycocotools reads, of numbered images; only polygons, which are none here, need their sizes."""
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": number, "height": 0, "width": 0} for number in range(images)],
        "annotations": annotations,
        "categories": [{"id": _CATEGORY}],
    }
    dataset.createIndex()
    return dataset


def _annotations(codes: Iterable[tuple[int, Code, dict[str, Any]]], first: int = 1) -> list[dict[str, Any]]:
    """COCO annotations of masks and the numbers of their images; numbered from 1, since 0 means "no match" there."""
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": _CATEGORY,
            "segmentation": code,
            "area": int(coco_mask.area(code)),
            **more,
        }
        for number, (image, code, more) in enumerate(codes, start=first)
    ]
