"""Random sets in the manner of SA-Co VEval: things that move, of several phrases, and what a model sees of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.synthetic import rectangle, rle

SCORES = (0.2, 0.4999, 0.5, 0.5000001, 0.7, 0.9)  # ties at the threshold among them


def video_set(seed: int, folder: Path, *, videos: int = 8, phrases: int = 4, categories: int = 40) -> tuple[Path, Path]:
    """Write ground truth and predictions with negatives, nulls, crowds, empty masklets, swaps and ties."""
    rng = np.random.default_rng(seed)
    names = [{"id": number, "name": f"thing {number}"} for number in (rng.permutation(categories) + 3).tolist()]
    truth: dict[str, list[dict[str, Any]]] = {
        "videos": [],
        "annotations": [],
        "categories": names,
        "video_np_pairs": [],
    }
    found: list[dict[str, Any]] = []
    for video in (rng.permutation(videos) + 11).tolist():
        size, frames = ((36, 48), (40, 30))[rng.integers(2)], int(rng.integers(3, 10))
        truth["videos"].append(
            {
                "id": video,
                "video_name": f"v{video}",
                "file_names": [f"v{video}/{frame:05d}.jpg" for frame in range(frames)],
                "height": size[0],
                "width": size[1],
                "length": frames,
            }
        )
        own = rng.choice([name["id"] for name in names], phrases + 2, replace=False).tolist()
        for category in own[:phrases]:
            things = _things(rng, size, frames, int(rng.integers(0, 5)))
            pair = {"id": len(truth["video_np_pairs"]) + 1, "video_id": video, "category_id": category}
            truth["video_np_pairs"].append({**pair, "noun_phrase": f"thing {category}", "num_masklets": len(things)})
            for thing in things:
                crowd = int(rng.random() < 0.1)
                annotation = {"id": len(truth["annotations"]) + 1, "video_id": video, "category_id": category}
                seen = _masklet(thing, size)
                truth["annotations"].append({**annotation, **seen, "iscrowd": crowd})
            # A third of the things are also found as something else, some of it never asked for.
            for thing in things:
                if rng.random() < 0.8:
                    found.append(_prediction(rng, video, category, _nudge(rng, thing), size))
                if rng.random() < 0.3:
                    found.append(_prediction(rng, video, int(rng.choice(own)), _nudge(rng, thing), size))
            if len(things) > 1 and rng.random() < 0.5:
                found.append(
                    _prediction(rng, video, category, [*things[0][: frames // 2], *things[1][frames // 2 :]], size)
                )
            if rng.random() < 0.4:
                found += [_prediction(rng, video, category, thing, size) for thing in _things(rng, size, frames, 1)]
            if rng.random() < 0.2:
                found.append(_prediction(rng, video, category, [None] * frames, size))
    order = rng.permutation(len(found)).tolist()
    paths = folder / "truth.json", folder / "found.json"
    paths[0].write_text(json.dumps(truth), encoding="utf-8")
    paths[1].write_text(json.dumps([found[place] for place in order]), encoding="utf-8")
    return paths


Box = Sequence[int] | None  # left, top, right, bottom


def _things(rng: np.random.Generator, size: tuple[int, int], frames: int, count: int) -> list[list[Box]]:
    """Tracks of boxes; None where a thing is not seen, but it is seen once at least."""
    tracks: list[list[Box]] = []
    for _ in range(count):
        extent = rng.integers(5, 15, 2)
        place, speed = rng.uniform(0, np.array(size[::-1]) - extent), rng.uniform(-3, 3, 2)
        track: list[Box] = []
        for _ in range(frames):
            left, top = np.clip(place, 0, np.array(size[::-1]) - extent).astype(int).tolist()
            seen = not track or rng.random() < 0.85
            track.append((left, top, left + int(extent[0]), top + int(extent[1])) if seen else None)
            place = place + speed
        tracks.append(track)
    return tracks


def _nudge(rng: np.random.Generator, track: Sequence[Box]) -> list[Box]:
    """The track as a model sees it: off by a pixel at times, gone at times."""
    if rng.random() < 0.25:
        return list(track)
    moved: list[Box] = []
    for box in track:
        if box is None or rng.random() < 0.1:
            moved.append(None)
        else:
            left, top, right, bottom = (np.array(box) + rng.integers(-1, 2, 4)).tolist()
            moved.append((max(left, 0), max(top, 0), right, bottom))
    return moved


def _masklet(track: Sequence[Box], size: tuple[int, int]) -> dict[str, list[Any]]:
    boxes: list[Any] = []
    masks: list[Any] = []
    areas: list[Any] = []
    for box in track:
        mask = None if box is None else rectangle(size, *box)
        if box is None or mask is None:
            boxes.append(None), masks.append(None), areas.append(None)
            continue
        if (box[2] - box[0]) % 2:  # a corner is missing, so that masks and boxes overlap differently
            mask[box[1] : box[1] + 3, box[0] : box[0] + 4] = False
        masks.append(rle(mask))
        right, bottom = min(box[2], size[1]), min(box[3], size[0])
        boxes.append([box[0], box[1], right - box[0], bottom - box[1]])
        areas.append(int(mask.sum()))
    return {"segmentations": masks, "bboxes": boxes, "areas": areas}


def _prediction(
    rng: np.random.Generator, video: int, category: int, track: Sequence[Box], size: tuple[int, int]
) -> dict[str, Any]:
    seen = _masklet(track, size)
    if rng.random() < 0.5:  # as the official writer has it, empty masks among them
        nothing = rle(np.zeros(size, dtype=bool))
        seen["segmentations"] = [nothing if mask is None else mask for mask in seen["segmentations"]]
        seen["bboxes"] = [[0.0] * 4 if box is None else list(map(float, box)) for box in seen["bboxes"]]
        seen["areas"] = [area or 0 for area in seen["areas"]]
    return {"video_id": video, "category_id": category, "score": float(rng.choice(SCORES)), **seen}
