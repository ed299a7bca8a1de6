"""Small files of SA-Co Gold: masks are rows of a 10 x 10 image, so that overlaps are simple fractions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.synthetic import rle

SIDE = 10


def stripe(first: int, last: int) -> dict[str, Any]:
    """Compressed RLE of the pixels first..last-1, of 100 counted along the rows."""
    flat = np.zeros(SIDE * SIDE, dtype=bool)
    flat[first:last] = True
    return rle(flat.reshape(SIDE, SIDE))


def write_truth(
    path: Path,
    masks: Mapping[int, Sequence[dict[str, Any]]],
    *,
    crowds: Mapping[int, Sequence[dict[str, Any]]] | None = None,
    partial: Sequence[int] = (),
) -> Path:
    """Ground truth of pairs; `partial` ones are not exhaustive."""
    images = [
        {"id": pair, "height": SIDE, "width": SIDE, "text_input": "dog", "is_instance_exhaustive": pair not in partial}
        for pair in masks
    ]
    found = [(pair, one, 0) for pair, some in masks.items() for one in some]
    found += [(pair, one, 1) for pair, some in (crowds or {}).items() for one in some]
    annotations = [
        {"id": number, "image_id": pair, "category_id": 1, "segmentation": one, "iscrowd": crowd}
        for number, (pair, one, crowd) in enumerate(found, start=1)
    ]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_predictions(path: Path, found: Sequence[tuple[int, dict[str, Any], float]]) -> Path:
    """COCO results without boxes."""
    listed = [{"image_id": pair, "category_id": 1, "segmentation": one, "score": score} for pair, one, score in found]
    path.write_text(json.dumps(listed), encoding="utf-8")
    return path
