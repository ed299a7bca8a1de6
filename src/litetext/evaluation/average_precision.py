"""COCO's average precision of masks, on the files of SA-Co Gold, through pycocotools.

Each (image, phrase) pair is an image of COCO's, and there is one category. Source: COCO's detection evaluation, its
twelve numbers for masks.
"""

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from litetext.evaluation.cgf1 import Progress, choose_pairs
from litetext.evaluation.coco import encode, read_annotations, read_predictions
from litetext.evaluation.coco_json import PairId
from litetext.evaluation.rle import Segmentation

_CATEGORY = 1
_STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's scores of masks, each from 0 to 1; -1 where there is no such instance to be found.

    Attributes:
        ap: average precision over the IoU thresholds 0.50:0.05:0.95.
        ap50: at the IoU threshold 0.5.
        ap75: at the IoU threshold 0.75.
        ap_small: of instances of less than 32 x 32 pixels.
        ap_medium: of those between.
        ap_large: of instances of more than 96 x 96 pixels.
        ar1: average recall with one prediction a pair.
        ar10: with ten.
        ar100: with a hundred; no score looks at more.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float

    def to_json(self) -> dict[str, float]:
        """The scores by their names."""
        return asdict(self)


def evaluate_ap(truth: Path, predictions: Path, progress: Progress | None = None) -> AveragePrecision:
    """Average precision of predictions of all scores, against one annotator.

    Pairs that he does not call exhaustive are left out. A prediction on a crowd is neither right nor wrong. Areas are
    counted in the masks: those of Gold's files are shares of the image.

    Args:
        truth: the ground truth of an annotator, COCO JSON of (image, phrase) pairs.
        predictions: COCO results. Predictions that were cut at a score leave the curve short: keep poor ones too.
        progress: told the stage and the share done.

    Raises:
        EvaluationError: a file cannot be read, or the files do not belong together.
    """
    annotator = read_annotations(truth)
    found = read_predictions(predictions, -math.inf, annotator)
    # COCO goes through images by their numbers; where scores tie, the order decides.
    pairs = sorted(choose_pairs([annotator], found), key=_order)
    sizes = {pair: annotator.pairs[pair].size for pair in pairs}
    if progress is not None:
        progress("average precision", 0.0)

    def codes(masks: Mapping[PairId, Sequence[Segmentation]], name: str) -> list[tuple[int, Mapping[str, Any]]]:
        return [
            (number, encode(mask, sizes[pair], f"{name}, pair {pair!r}"))
            for number, pair in enumerate(pairs)
            for mask in masks.get(pair, ())
        ]

    truths = [{**one, "iscrowd": 0} for one in _annotations(codes(annotator.masks, annotator.name))]
    crowds = _annotations(codes(annotator.crowds, annotator.name), first=len(truths) + 1)
    scores = [score for pair in pairs for score in found.scores.get(pair, ())]
    listed = _annotations(codes(found.masks, found.name))
    told = [{**one, "score": score} for one, score in zip(listed, scores, strict=True)]
    result = _evaluate(len(pairs), [*truths, *({**one, "iscrowd": 1} for one in crowds)], told)
    if progress is not None:
        progress("average precision", 1.0)
    return result


def _evaluate(images: int, truths: list[dict[str, Any]], told: list[dict[str, Any]]) -> AveragePrecision:
    """Run pycocotools, which prints what it does: standard output belongs to our own."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(_dataset(images, truths), _dataset(images, told), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return AveragePrecision(**{name: float(value) for name, value in zip(_STATS, run.stats, strict=False)})


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


def _annotations(codes: Iterable[tuple[int, Mapping[str, Any]]], first: int = 1) -> list[dict[str, Any]]:
    """COCO annotations of masks and the numbers of their images; numbered from 1, since 0 means "no match" there."""
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": _CATEGORY,
            "segmentation": code,
            "area": int(coco_mask.area(code)),
        }
        for number, (image, code) in enumerate(codes, start=first)
    ]


def _order(pair: PairId) -> tuple[bool, int, str]:
    """By number, then by name."""
    return (True, 0, pair) if isinstance(pair, str) else (False, pair, "")
