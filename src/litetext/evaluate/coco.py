"""Files of SA-Co Gold: an annotator's ground truth and COCO results, and the overlap of their masks.

An "image" of these files is an (image, phrase) pair: the same picture stands there once for each phrase.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError
from litetext.evaluate.entries import Entry, PairId, entries, read_annotator, read_json

# COCO's three notations: compressed RLE (counts is a string), uncompressed RLE (counts is a list), polygons (a list).
Segmentation = Mapping[str, Any] | list[Any]


@dataclass(frozen=True)
class Pair:
    """An (image, phrase) pair as an annotator describes it.

    Attributes:
        exhaustive: whether every instance is annotated as an instance of its own.
        size: height and width of the image in pixels, where the file says them.
    """

    exhaustive: bool
    size: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Annotations:
    """The ground truth of one annotator.

    Attributes:
        name: the file.
        pairs: every pair by its number.
        masks: the true masks of a pair, crowds left out; no entry where there are none.
        crowds: the crowds of a pair: masks that cover several instances; no entry where there are none.
        categories: the category numbers of the file; empty if it lists none.
    """

    name: str
    pairs: Mapping[PairId, Pair]
    masks: Mapping[PairId, Sequence[Segmentation]]
    crowds: Mapping[PairId, Sequence[Segmentation]]
    categories: frozenset[int]


@dataclass(frozen=True, eq=False)
class Predictions:
    """COCO results.

    Attributes:
        name: the file.
        masks: the predicted masks of a pair, those of the threshold's score or better; no entry where there are none.
        scores: the scores of those masks.
        pairs: the pairs of all predictions, poor ones too.
        categories: the category numbers of all predictions.
    """

    name: str
    masks: Mapping[PairId, Sequence[Segmentation]]
    scores: Mapping[PairId, Sequence[float]]
    pairs: frozenset[PairId]
    categories: frozenset[int]


def read_annotations(path: Path) -> Annotations:
    """Read the ground truth of one annotator.

    Raises:
        EvaluationError: no such file, not JSON, or an image or annotation lacks what the score needs.
    """
    document = read_annotator(path)
    pairs = {}
    for entry in entries(document, "images", path):
        pair = entry.number("id")
        if pair in pairs:
            raise EvaluationError(f"the id {pair!r} is there twice", where=entry.place, mend="give each pair its own")
        pairs[pair] = Pair(bool(entry.take("is_instance_exhaustive")), entry.size)
    listed = entries(document, "categories", path) if "categories" in document else ()
    categories = frozenset(entry.integer("id") for entry in listed)
    masks: defaultdict[PairId, list[Segmentation]] = defaultdict(list)
    crowds: defaultdict[PairId, list[Segmentation]] = defaultdict(list)
    for entry in _by_category(entries(document, "annotations", path)):
        pair = entry.number("image_id")
        if pair not in pairs:
            raise EvaluationError(f"no image has the id {pair!r}", where=entry.place, mend="mend its image_id")
        if categories and "category_id" in entry.fields and entry.integer("category_id") not in categories:
            raise EvaluationError("no category has that category_id", where=entry.place, mend="mend it")
        (crowds if entry.fields.get("iscrowd") else masks)[pair].append(entry.take("segmentation"))
    return Annotations(str(path), pairs, dict(masks), dict(crowds), categories)


def read_predictions(path: Path, threshold: float) -> Predictions:
    """Read COCO results; a prediction without ``segmentation`` is the rectangle of its ``bbox``.

    Args:
        path: the JSON file.
        threshold: predictions of this score or a higher one are kept.

    Raises:
        EvaluationError: no such file, not JSON, or a prediction lacks what the score needs.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise EvaluationError("not a list of COCO results", where=str(path), mend="give [{image_id, score, ...}, ...]")
    masks, scores, pairs, categories = defaultdict(list), defaultdict(list), set(), set()
    for entry in _by_category(entries({"predictions": document}, "predictions", path)):
        pair, score = entry.number("image_id"), entry.take("score")
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise EvaluationError(f"the score is {score!r}", where=entry.place, mend="give a finite number")
        pairs.add(pair)
        if "category_id" in entry.fields:
            categories.add(entry.integer("category_id"))
        if score >= threshold:
            boxed = "segmentation" not in entry.fields and "bbox" in entry.fields
            masks[pair].append(_rectangle(entry) if boxed else entry.take("segmentation"))
            scores[pair].append(score)
    return Predictions(str(path), dict(masks), dict(scores), frozenset(pairs), frozenset(categories))


def encode(segmentation: Segmentation, size: tuple[int, int] | None, where: str) -> dict[str, Any]:
    """A segmentation in any of COCO's notations as compressed RLE.

    Args:
        segmentation: RLE or polygons.
        size: height and width of the image in pixels, which polygons need.
        where: the pair and the file, for the message.

    Raises:
        EvaluationError: not a segmentation, or polygons without a size.
    """
    try:
        if isinstance(segmentation, list):
            if size is None:
                raise EvaluationError("polygons of an image without a size", where=where, mend="give height and width")
            _check_polygons(segmentation)
            return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size)))
        height, width = map(int, segmentation["size"])
        counts = segmentation["counts"]
        if isinstance(counts, str):
            return {"size": [height, width], "counts": counts}
        _check_runs(counts, height * width)
        return dict(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise EvaluationError(
            f"not a segmentation ({type(error).__name__}: {error})", where=where, mend="give RLE or polygons of COCO"
        ) from error


def overlap(predictions: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    """IoU [P, G] of compressed RLE masks; at most 0 where two masks have different sizes."""
    if not predictions or not truths:
        return np.zeros((len(predictions), len(truths)))
    ious: npt.NDArray[np.float64] = coco_mask.iou(list(predictions), list(truths), [0] * len(truths))
    return ious


def encode_masks(masks: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Masks, bool [N, H, W], as compressed RLE."""
    return [dict(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))) for mask in masks]


def decode_masks(codes: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Compressed RLE of masks of that height and width as bool [N, H, W]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools asks NumPy 2 in the manner of NumPy 1
        decoded = [coco_mask.decode(code) for code in codes]
    return np.array(decoded, dtype=np.bool_).reshape(len(codes), *size)


def _by_category(listed: Iterable[Entry]) -> list[Entry]:
    """Entries in the order of their categories, else of the file: where matchings tie, the order decides."""
    return sorted(listed, key=lambda entry: entry.integer("category_id") if "category_id" in entry.fields else 0)


def _rectangle(entry: Entry) -> list[list[float]]:
    try:
        left, top, width, height = map(float, entry.fields["bbox"])
    except (TypeError, ValueError) as error:
        raise EvaluationError("'bbox' is not x, y, width, height", where=entry.place, mend="mend the box") from error
    right, bottom = left + width, top + height
    return [[left, top, left, bottom, right, bottom, right, top]]


def _check_runs(counts: list[int], pixels: int) -> None:
    if min(counts) < 0 or sum(counts) != pixels:
        raise ValueError(f"the runs do not add up to {pixels} pixels")


def _check_polygons(polygons: list[Any]) -> None:
    # pycocotools reads a list of fours as boxes and stops the process at some other shapes.
    if not polygons or not all(isinstance(one, list) and len(one) >= 6 and len(one) % 2 == 0 for one in polygons):
        raise ValueError("polygons are lists x1, y1, x2, y2, ... of three points or more")
    if not all(math.isfinite(value) for one in polygons for value in one):
        raise ValueError("a polygon has a coordinate that is not finite")
