"""Random sets in the manner of SA-Co Gold: rectangles that annotators and a model see a little differently."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

SIZES = ((48, 64), (60, 40), (33, 57))


def rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a mask [H, W], as JSON can hold it."""
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed RLE of a mask [H, W]."""
    flat = mask.T.reshape(-1).astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def rectangle(size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[max(top, 0) : bottom, max(left, 0) : right] = True
    return mask


def gold_set(seed: int, pairs: int, annotators: int, folder: Path) -> tuple[list[Path], Path]:
    """Write ground truth files and a prediction file; the pairs have every mixture of presence, crowds and ties."""
    rng = np.random.default_rng(seed)
    images: list[list[dict[str, Any]]] = [[] for _ in range(annotators)]
    annotations: list[list[dict[str, Any]]] = [[] for _ in range(annotators)]
    predictions: list[dict[str, Any]] = []
    for pair in (rng.permutation(pairs) + 7).tolist():
        size = SIZES[rng.integers(len(SIZES))]
        objects = _objects(rng, size) if rng.random() < 0.6 else []
        for index in range(annotators):
            exhaustive = bool(rng.random() < 0.95)
            image = {"id": pair, "height": size[0], "width": size[1], "text_input": f"thing {pair}"}
            images[index].append({**image, "is_instance_exhaustive": exhaustive})
            for box in objects:
                if rng.random() < 0.8:
                    annotations[index].append(_annotation(rng, pair, size, box, len(annotations[index])))
        seen = [box for box in objects if rng.random() < 0.8] if rng.random() < 0.85 else []
        seen += _objects(rng, size)[:2] if rng.random() < 0.3 else []
        predictions += [_prediction(rng, pair, size, box) for box in seen]
    rng.shuffle(predictions)  # type: ignore[arg-type]
    files = [folder / f"gold_{index}.json" for index in range(annotators)]
    for file, some_images, some_annotations in zip(files, images, annotations, strict=True):
        # The annotators' files have their pairs in other orders.
        order = rng.permutation(len(some_images)).tolist()
        document = {
            "images": [some_images[place] for place in order],
            "annotations": some_annotations,
            "categories": [{"id": 1, "name": "object"}, {"id": 2, "name": "other"}],
        }
        file.write_text(json.dumps(document), encoding="utf-8")
    found = folder / "predictions.json"
    found.write_text(json.dumps(predictions), encoding="utf-8")
    return files, found


def _objects(rng: np.random.Generator, size: tuple[int, int]) -> list[list[int]]:
    count = int(rng.integers(1, 7))
    corners = rng.integers(0, (size[1] - 14, size[0] - 14), (count, 2))
    return [[left, top, left + 8 + grow, top + 14 - grow] for (left, top), grow in zip(corners.tolist(), range(count))]  # noqa: B905


def _nudge(rng: np.random.Generator, box: list[int]) -> list[int]:
    return (np.array(box) + rng.integers(-1, 2, 4)).tolist()


def _annotation(
    rng: np.random.Generator, pair: int, size: tuple[int, int], box: list[int], number: int
) -> dict[str, Any]:
    left, top, right, bottom = _nudge(rng, box) if rng.random() < 0.5 else box
    mask = rectangle(size, left, top, right, bottom)
    notation = rng.integers(4)
    polygon = [[left, top, right, top, right, bottom, left, bottom]]
    return {
        "id": number + 1,
        "image_id": pair,
        "category_id": int(rng.choice([1, 1, 1, 2])),
        "segmentation": polygon if notation == 0 else runs(mask) if notation == 1 else rle(mask),
        "bbox": [left, top, right - left, bottom - top],
        "area": int(mask.sum()),
        "iscrowd": int(rng.random() < 0.1),
    }


def _prediction(rng: np.random.Generator, pair: int, size: tuple[int, int], box: list[int]) -> dict[str, Any]:
    left, top, right, bottom = _nudge(rng, box) if rng.random() < 0.7 else box
    mask = rectangle(size, left, top, right, bottom)
    return {
        "image_id": pair,
        "category_id": int(rng.choice([1, 1, 1, 2])),
        "segmentation": rle(mask),
        "bbox": [left, top, right - left, bottom - top],
        "score": float(rng.choice([0.2, 0.49, 0.5, 0.51, 0.9], p=[0.1, 0.05, 0.15, 0.1, 0.6])),
    }
