"""Files of SA-Co Gold: an annotator's ground truth and COCO results, and the overlap of their masks.

An "image" of these files is an (image, phrase) pair: the same picture stands there once for each phrase.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError
from litetext.evaluation.coco_json import Entry, PairId, by_id, entries, read_annotator, read_json
from litetext.evaluation.datasets import match_names
from litetext.evaluation.rle import Segmentation, check_masks, check_polygons, no_segmentation


class Pair(NamedTuple):
    """An (image, phrase) pair as an annotator describes it.

    Attributes:
        exhaustive: whether every instance is annotated as an instance of its own.
        size: height and width of the image in pixels, where the file says them.
        entry: where it stands; has the picture's ``file_name`` and the phrase, ``text_input``.
    """

    exhaustive: bool
    size: tuple[int, int] | None
    entry: Entry


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
        asked: the pairs that were asked; None where the file does not say it.
    """

    name: str
    masks: Mapping[PairId, Sequence[Segmentation]]
    scores: Mapping[PairId, Sequence[float]]
    pairs: frozenset[PairId]
    categories: frozenset[int]
    asked: frozenset[PairId] | None


def read_annotations(path: Path) -> Annotations:
    """Read the ground truth of one annotator.

    Raises:
        EvaluationError: no such file, not JSON, or an image or annotation lacks what the score needs or has something
            else there.
    """
    document = read_annotator(path)
    pairs = {
        pair: Pair(entry.flag("is_instance_exhaustive"), entry.size, entry)
        for pair, entry in by_id(entries(document, "images", path)).items()
    }
    listed = by_id(entries(document, "categories", path)) if "categories" in document else {}
    categories = frozenset(entry.integer("id") for entry in listed.values())
    annotations = _by_category(entries(document, "annotations", path))
    by_id(entry for entry in annotations if "id" in entry.fields)  # no id is there twice
    masks: defaultdict[PairId, list[Segmentation]] = defaultdict(list)
    crowds: defaultdict[PairId, list[Segmentation]] = defaultdict(list)
    told = [(entry.number("image_id"), entry) for entry in annotations]
    for pair, entry in told:
        if pair not in pairs:
            raise EvaluationError(f"no image has the id {shown(pair)}", where=entry.place, hint="fix its image_id")
        if categories and "category_id" in entry.fields and entry.integer("category_id") not in categories:
            raise EvaluationError("no category has that category_id", where=entry.place, hint="fix it")
    for (pair, entry), mask in zip(told, _masks(told), strict=True):
        size = pairs[pair].size
        if size is not None and isinstance(mask, dict) and tuple(mask["size"]) != size:
            raise EvaluationError(
                f"a mask of {shown(mask['size'])} pixels where the image has {list(size)}",
                where=_place(pair, entry),
                hint="fix the size of either",
            )
        is_crowd = "iscrowd" in entry.fields and entry.flag("iscrowd")
        (crowds if is_crowd else masks)[pair].append(mask)
    return Annotations(str(path), pairs, dict(masks), dict(crowds), categories)


def read_predictions(path: Path, threshold: float, truth: Annotations | None = None) -> Predictions:
    """Read COCO results; a prediction without ``segmentation`` is the rectangle of its ``bbox``.

    A COCO data set with scores, as ``litetext segment`` writes it, will do too where the ground truth is known: its
    images and categories are those of a pair by their names.

    Args:
        path: the JSON file.
        threshold: predictions of this score or a higher one are kept.
        truth: what the predictions are for.

    Raises:
        EvaluationError: no such file, not JSON, or a prediction lacks what the score needs or has something else there.
    """
    document = read_json(path)
    asked = None
    categories: frozenset[int] = frozenset()
    if isinstance(document, list):
        listed = _by_category(entries({"predictions": document}, "predictions", path))
        told = [(entry.number("image_id"), entry) for entry in listed]
        categories = frozenset(entry.integer("category_id") for entry in listed if "category_id" in entry.fields)
    elif truth is not None and isinstance(document, dict) and "annotations" in document:
        told, asked = match_names(document, path, {pair: one.entry for pair, one in truth.pairs.items()})
    else:
        raise EvaluationError("not a list of COCO results", where=str(path), hint="give [{image_id, score, ...}, ...]")
    kept = [(pair, entry) for pair, entry in told if entry.real("score") >= threshold]
    masks, scores = defaultdict(list), defaultdict(list)
    for (pair, entry), mask in zip(kept, _masks(kept), strict=True):
        masks[pair].append(mask)
        scores[pair].append(entry.fields["score"])
    return Predictions(str(path), dict(masks), dict(scores), frozenset(pair for pair, _ in told), categories, asked)


def encode(segmentation: Segmentation, size: tuple[int, int] | None, where: str) -> Mapping[str, Any]:
    """A segmentation in any of COCO's notations as compressed RLE.

    Args:
        segmentation: RLE or polygons. Counts that are bytes are pycocotools' own, and taken as they are.
        size: height and width of the image in pixels, which polygons need.
        where: the pair and the file, for the message.

    Raises:
        EvaluationError: not a segmentation, or polygons without a size.
    """
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), bytes):
        return segmentation
    if not isinstance(segmentation, list):
        (code,) = check_masks([segmentation], lambda _: where)
        return code  # type: ignore[no-any-return]
    if size is None:
        raise EvaluationError("polygons of an image without a size", where=where, hint="give height and width")
    try:
        return dict(coco_mask.merge(coco_mask.frPyObjects(check_polygons(segmentation), *size)))
    except ValueError as error:
        raise no_segmentation(str(error), where) from error


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


def _masks(listed: Sequence[tuple[PairId, Entry]]) -> list[Segmentation]:
    """The checked masks of entries of pairs, in their order; an entry without one has the rectangle of its box."""
    given = [
        _rectangle(entry)
        if "segmentation" not in entry.fields and "bbox" in entry.fields
        else entry.take("segmentation")
        for _, entry in listed
    ]
    return check_masks(given, lambda index: _place(*listed[index]))


def _place(pair: PairId, entry: Entry) -> str:
    return f"{entry.place}, pair {shown(pair)}"


def _rectangle(entry: Entry) -> list[list[float]]:
    left, top, width, height = entry.box
    right, bottom = left + width, top + height
    return [[left, top, left, bottom, right, bottom, right, top]]
