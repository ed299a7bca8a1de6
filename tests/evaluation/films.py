"""Clips of squares that move, and trackers that find in them what a table says."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from litetext.evaluation.labeled_pairs import LabeledClip
from litetext.evaluation.veval_files import Masklet
from litetext.sam3.masks import encode_masks
from litetext.video.masklets import Masklet as Found
from litetext.video.masklets import to_annotation
from litetext.video.tracking import Frame, TrackedFrame

FRAMES, SIDE = 6, 24
Places = Sequence[int | None]  # of a square of 6 x 6 pixels, its left edge in each frame; None where it is hidden
Script = Mapping[str, Sequence[Places]]
RIGHT: Places = (0, 3, 6, 9, 12, 15)
LEFT: Places = tuple(reversed(RIGHT))
BLINKING: Places = (0, None, 0, None, 0, 0)
SCRIPT: Script = {"dog": [RIGHT, LEFT], "cat": [BLINKING], "bus": []}


def square(left: int, top: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[top : top + 6, left : left + 6] = True
    return mask


def masks_of(script: Script, phrase: str, frame: int) -> dict[int, npt.NDArray[np.bool_]]:
    """By id; the things of a phrase are below each other, each in a row of its own."""
    first = 1 + sum(len(script[other]) for other in list(script)[: list(script).index(phrase)])
    seen = {number: places[frame] for number, places in enumerate(script[phrase])}
    return {first + number: square(left, 8 * number) for number, left in seen.items() if left is not None}


def film(script: Script = SCRIPT, name: str = "film", number: int = 1) -> LabeledClip:
    """A clip whose phrases are those of a script, and whose frames are as gray as their numbers."""
    truths = {}
    for category, phrase in enumerate(script):
        codes: dict[int, list[Any]] = {}
        for frame in range(FRAMES):
            for thing, mask in masks_of(script, phrase, frame).items():
                codes.setdefault(thing, [None] * FRAMES)[frame] = encode_masks(mask[None])[0]
        truths[category] = [Masklet.of(own) for own in codes.values()]

    def read(frame: int) -> npt.NDArray[np.uint8]:
        return np.full((SIDE, SIDE, 3), frame, dtype=np.uint8)

    return LabeledClip(number, name, FRAMES, read, dict(enumerate(script)), truths)


class Replay:
    """Finds what a script says, one frame later; what it does not have is not found.

    From a frame on, the ids 1 and 2 are exchanged.
    """

    def __init__(
        self, prompts: Iterable[str], script: Script = SCRIPT, score: float = 0.9, exchanged_from: int = FRAMES
    ) -> None:
        self.prompts, self.script, self.score = list(dict.fromkeys(prompts)), script, score
        self.exchanged_from = exchanged_from
        self.held: list[Frame] = []

    def add(self, prompts: Iterable[str]) -> None:
        raise NotImplementedError

    def drop(self, prompts: Iterable[str]) -> None:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        raise NotImplementedError

    def step(self, frame: Frame) -> list[TrackedFrame]:
        self.held.append(frame)
        return [self._answer(self.held.pop(0))] if len(self.held) > 1 else []

    def finish(self) -> list[TrackedFrame]:
        return [self._answer(frame) for frame in self.held]

    def _answer(self, frame: Frame) -> TrackedFrame:
        assert (frame.pixels == frame.index).all()
        found = [
            (number, phrase, mask)
            for phrase in self.prompts
            if phrase in self.script
            for number, mask in masks_of(self.script, phrase, frame.index).items()
        ]
        if frame.index >= self.exchanged_from:
            found = [({1: 2, 2: 1}.get(number, number), phrase, mask) for number, phrase, mask in found]
        ids, prompts, masks = ([one[part] for one in found] for part in range(3))
        scores = np.full(len(found), self.score, dtype=np.float32)
        shape = np.array(masks, dtype=np.bool_).reshape(-1, SIDE, SIDE)
        return TrackedFrame(frame.index, frame.time, np.array(ids, dtype=np.int64), tuple(prompts), scores, shape)


def write_films(folder: Path, count: int = 3) -> Path:
    """Ground truth ``gt.json`` of films, and their frames in ``videos/``; the first film has one phrase."""
    document: dict[str, list[Any]] = {"videos": [], "annotations": [], "categories": [], "video_np_pairs": []}
    document["categories"] = [{"id": 5 + place, "name": phrase} for place, phrase in enumerate(SCRIPT)]
    for number in range(1, count + 1):
        clip = film({"dog": SCRIPT["dog"]} if number == 1 else SCRIPT, f"film{number}", number)
        names = [f"{clip.name}/{frame}.png" for frame in range(FRAMES)]
        for frame, name in enumerate(names):
            path = folder / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(clip.read(frame)).save(path)
        size = {"height": SIDE, "width": SIDE}
        document["videos"].append({"id": number, "video_name": clip.name, "file_names": names, **size})
        for category in clip.phrases:
            own = {"video_id": number, "category_id": 5 + category}
            document["video_np_pairs"].append(own)
            for truth in clip.truths[category]:
                masks = to_annotation(Found(0, "", 1.0, truth.codes))
                document["annotations"].append({"id": len(document["annotations"]) + 1, **own, **masks})
    path = folder / "gt.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
