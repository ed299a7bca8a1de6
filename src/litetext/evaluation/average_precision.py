"""COCO's average precision: of masks, on the files of SA-Co Gold, through pycocotools; of masklets, from their IoUs.

On Gold each (image, phrase) pair is an image of COCO's, and there is one category. For masklets, pycocotools would go
through all 51,248 categories of VEval. Source: COCO's detection evaluation.
"""

import contextlib
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from litetext.evaluation.cgf1 import THRESHOLDS, Progress, choose_pairs
from litetext.evaluation.coco import Truth, read_annotations, read_predictions
from litetext.sam3.masks import Code

_CATEGORY = 1
_MOST_PREDICTIONS = 100  # of a pair
_RECALLS = np.linspace(0.0, 1.0, 101)
# At IoU 0.50:0.05:0.95, at 0.5, at 0.75; of instances below 32 x 32 pixels, between, above 96 x 96; average recall with
# one, ten, a hundred predictions a pair. No score looks at more than a hundred.
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


def evaluate_ap(truth: Truth, predictions: Path, progress: Progress | None = None) -> dict[str, float]:
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


class Ranked(NamedTuple):
    """P predictions of a pair, best first, matched with its true masklets at each of T thresholds."""

    scores: npt.NDArray[np.float64]  # [P]
    right: npt.NDArray[np.bool_]  # [T, P]
    ignored: npt.NDArray[np.bool_]  # [T, P], those on a crowd
    truths: int  # without crowds


def rank(ious: npt.NDArray[np.float64], scores: Sequence[float], crowds: Sequence[bool]) -> Ranked:
    """Match predictions with true masklets as COCO does, the best hundred of them, from IoUs [P, G] in any order.

    Each takes what is left of the true ones with the highest IoU, the last of equals; a crowd only where nothing else
    is, and never for good.
    """
    values, is_crowd = np.array(scores, dtype=np.float64), np.array(crowds, dtype=np.bool_)
    order = np.argsort(-values, kind="stable")[:_MOST_PREDICTIONS]
    chosen = np.full((len(THRESHOLDS), len(order)), -1)
    free = np.ones((len(THRESHOLDS), len(is_crowd)), dtype=np.bool_)
    levels = np.arange(len(THRESHOLDS))
    for place, row in enumerate(ious[order] if len(is_crowd) else ()):
        fits = free & (row >= THRESHOLDS[:, None])
        fits &= ~is_crowd | ~(fits & ~is_crowd).any(axis=1, keepdims=True)
        best = len(row) - 1 - np.where(fits, row, -1.0)[:, ::-1].argmax(axis=1)
        chosen[:, place] = np.where(fits[levels, best], best, -1)
        free[levels, best] &= ~fits[levels, best] | is_crowd[best]
    ignored = (chosen >= 0) & np.append(is_crowd, False)[chosen]
    return Ranked(values[order], (chosen >= 0) & ~ignored, ignored, int((~is_crowd).sum()))


def precision_of(pairs: Sequence[Ranked]) -> npt.NDArray[np.float64] | None:
    """Precision of pairs together, [T], averaged over 101 recalls; None where nothing is true."""
    truths = sum(pair.truths for pair in pairs)
    if not truths:
        return None
    order = np.argsort(-np.concatenate([pair.scores for pair in pairs]), kind="stable")
    right, ignored = (np.concatenate([pair[place] for pair in pairs], axis=1)[:, order] for place in (1, 2))
    hits, false = right.cumsum(axis=1), (~right & ~ignored).cumsum(axis=1)
    precision = np.maximum.accumulate((hits / (hits + false + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
    padded = np.append(precision, np.zeros((len(THRESHOLDS), 1)), axis=1)
    places = [np.searchsorted(recall, _RECALLS) for recall in hits / truths]
    return np.array([row[some].mean() for row, some in zip(padded, places, strict=True)])
