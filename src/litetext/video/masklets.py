"""Masklets of a clip: from records, one a frame, to the JSON of SA-Co VEval, the CSV of MOT, and counts.

A record is a `TrackedFrame` in JSON, with a checksum of its own. Files are written as streams: memory holds a few
numbers of each track, and the masks of a few tracks at a time, however long the clip is.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from litetext.records import sealed, unsealed
from litetext.sam3.masks import Code, decode_masks, encode_masks
from litetext.storage import atomic_file
from litetext.video.tracking import TrackedFrame

Record = dict[str, Any]
Records = Callable[[], Iterable[Record]]  # the records of a clip in their order, from the first one at each call

MOST_CHARACTERS = 2**26  # of run lengths: masks of so many are in memory at once, or those of one track
_IN_A_FRAME = 150  # bytes that a mask takes in memory beside its run lengths


@dataclass(frozen=True, eq=False)
class Masklet:
    """A thing in a clip of F frames.

    Attributes:
        id: its number in the clip.
        prompt: the phrase that names it.
        score: the mean of its scores in the frames where it is seen.
        masks: compressed RLE in each of the F frames, None where it is not seen.
    """

    id: int
    prompt: str
    score: float
    masks: Sequence[Code | None]


@dataclass
class Track:
    """What is known of a thing without its masks."""

    phrase: int  # its place among the phrases
    first: int  # number of the first frame with it
    last: int = 0
    frames: int = 0  # how many it is seen in
    total: float = 0.0  # of its scores
    best: float = 0.0  # of its scores
    characters: int = 0  # of its run lengths


class Totals:
    """Figures of the tracks of a clip, record by record."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self.phrases = list(phrases)
        self.frames = 0
        self.size: list[int] = []  # height and width in pixels
        self.tracks: dict[int, Track] = {}
        self._seen = [0] * len(phrases)

    def add(self, record: Record) -> None:
        """Count the next frame."""
        self.frames += 1
        self.size = record["size"]
        for phrase in set(record["phrases"]):
            self._seen[phrase] += 1
        things = (record[name] for name in ("ids", "phrases", "scores", "counts"))
        for number, phrase, score, counts in zip(*things, strict=True):
            track = self.tracks.setdefault(number, Track(phrase, record["frame"]))
            track.last = record["frame"]
            track.frames += 1
            track.total += score
            track.best = max(track.best, score)
            track.characters += len(counts)

    def table(self) -> list[dict[str, Any]]:
        """For each phrase its tracks, the first and last frame, the frames that it is seen in and its best score."""
        rows = []
        for place, phrase in enumerate(self.phrases):
            own = [track for track in self.tracks.values() if track.phrase == place]
            first = min((track.first for track in own), default=None)
            last = max((track.last for track in own), default=None)
            best = max((track.best for track in own), default=None)
            seen = {"first": first, "last": last, "frames": self._seen[place], "best": best}
            rows.append({"phrase": phrase, "tracks": len(own), **seen})
        return rows


def to_record(tracked: TrackedFrame, places: Mapping[str, int]) -> Record:
    """A tracked frame as JSON has it; ``places`` are those of the phrases."""
    record = {
        "frame": int(tracked.index),
        "time": float(tracked.time),
        "size": list(tracked.masks.shape[1:]),
        "ids": tracked.ids.tolist(),
        "phrases": [places[prompt] for prompt in tracked.prompts],
        "scores": tracked.scores.tolist(),
        "counts": [code["counts"].decode("ascii") for code in encode_masks(tracked.masks)],
    }
    return sealed(record)


def check_record(value: Any) -> Record:
    """A record that was read; a `ValueError` if it is none, or damaged."""
    if not unsealed(value).keys() >= {"frame", "time", "size", "ids", "phrases", "scores", "counts"}:
        raise ValueError("not a record")
    return dict(value)


def to_tracked(record: Record, phrases: Sequence[str]) -> TrackedFrame:
    """The tracked frame of a record, bit for bit."""
    height, width = record["size"]
    return TrackedFrame(
        index=record["frame"],
        time=record["time"],
        ids=np.array(record["ids"], dtype=np.int64),
        prompts=tuple(phrases[place] for place in record["phrases"]),
        scores=np.array(record["scores"], dtype=np.float32),
        masks=decode_masks([_code(record, counts) for counts in record["counts"]], (height, width)),
    )


def to_annotation(masklet: Masklet) -> dict[str, Any]:
    """The score, and a list each of boxes (left, top, width, height), areas and RLE, null where it is not seen."""
    from pycocotools import mask as coco_mask

    seen = [mask for mask in masklet.masks if mask is not None]
    boxes, areas = iter(coco_mask.toBbox(seen).astype(int).tolist()), iter(coco_mask.area(seen).tolist())
    return {
        "score": masklet.score,
        "bboxes": [mask and next(boxes) for mask in masklet.masks],
        "areas": [mask and next(areas) for mask in masklet.masks],
        "segmentations": [mask and {**mask, "counts": mask["counts"].decode()} for mask in masklet.masks],
    }


def read_masklets(records: Records, totals: Totals, most: int = MOST_CHARACTERS) -> Iterator[Masklet]:
    """The masklets in the order of their ids; the records are read once for as many as ``most`` characters hold."""
    for wanted in _batches(totals.tracks, most):
        masks: dict[int, list[tuple[int, Code]]] = {number: [] for number in wanted}
        for place, record in enumerate(records()):
            for number, counts in zip(record["ids"], record["counts"], strict=True):
                if number in masks:
                    masks[number].append((place, _code(record, counts)))
        for number in wanted:
            track, dense = totals.tracks[number], list[Code | None]([None] * totals.frames)
            for place, code in masks.pop(number):
                dense[place] = code
            yield Masklet(number, totals.phrases[track.phrase], track.total / track.frames, dense)


def write_masklets(path: Path, info: Mapping[str, Any], name: str, records: Records, totals: Totals) -> None:
    """Write what VEval's ground truth and predictions have, in one object: its first line is ``info``, see `read_info`.

    The entries of a masklet, one for each frame, belong to the frames that ``frame_indices`` of the video lists: with
    every second frame tracked, these are 0, 2, 4, ... VEval wants ``file_names``, which are made of these numbers. The
    boxes are those of the masks: left, top, width, height.
    """
    size = dict(zip(("height", "width"), totals.size, strict=False))
    indices = [record["frame"] for record in records()]
    video = {"id": 1, "video_name": name, **size, "length": totals.frames, "frame_indices": indices}
    video["file_names"] = [f"{name}/{index:06}.jpg" for index in indices]
    categories = [{"id": number, "name": phrase} for number, phrase in enumerate(totals.phrases, 1)]
    pairs = [
        {"id": number, "video_id": 1, "category_id": number, "noun_phrase": phrase, "num_masklets": row["tracks"]}
        for number, (phrase, row) in enumerate(zip(totals.phrases, totals.table(), strict=True), 1)
    ]
    with atomic_file(path) as file:
        file.write(f'{{"info": {json.dumps(info, allow_nan=False)},\n"videos": [{json.dumps(video)}],\n'.encode())
        file.write(f'"categories": {json.dumps(categories)},\n"video_np_pairs": {json.dumps(pairs)},\n'.encode())
        between = '"annotations": [\n'
        for masklet in read_masklets(records, totals):
            annotation = {
                "id": masklet.id,
                "video_id": 1,
                "category_id": totals.phrases.index(masklet.prompt) + 1,
                "noun_phrase": masklet.prompt,
                "iscrowd": 0,
                **size,
                **to_annotation(masklet),
            }
            file.write(f"{between}{json.dumps(annotation, allow_nan=False)}".encode())
            between = ",\n"
        file.write(b'"annotations": []}\n' if between != ",\n" else b"\n]}\n")


def read_info(path: Path) -> dict[str, Any]:
    """``info`` of a file of `write_masklets`, without the rest; a `ValueError` if it is another file."""
    with path.open("rb") as file:
        line = file.readline(2**24).rstrip()
    if not line.startswith(b'{"info": ') or not line.endswith(b","):
        raise ValueError("not a file of masklets")
    return dict(json.loads(line[:-1] + b"}")["info"])


def write_tracks(path: Path, records: Records) -> None:
    """Write a line for each thing and frame as MOT has it, without a header.

    ``frame, id, left, top, width, height, score, class, visibility``: frames and classes count from 1, a class is the
    place of a phrase, boxes are those of the masks in pixels, and visibility is unknown (-1).
    """
    from pycocotools import mask as coco_mask

    with _csv(path) as write:
        for record in records():
            codes = [_code(record, counts) for counts in record["counts"]]
            boxes = coco_mask.toBbox(codes).astype(int).tolist() if codes else []
            things = zip(record["ids"], boxes, record["scores"], record["phrases"], strict=True)
            for number, box, score, phrase in things:
                write((record["frame"] + 1, number, *box, f"{score:.6f}", phrase + 1, -1))


def write_counts(path: Path, records: Records, phrases: Sequence[str]) -> None:
    """Write how many things of each phrase are seen in each frame; frames count from 1, as those of `write_tracks`."""
    with _csv(path) as write:
        write(("frame", "time", *phrases))
        for record in records():
            counts = [record["phrases"].count(place) for place in range(len(phrases))]
            write((record["frame"] + 1, f"{record['time']:.6f}", *counts))


@contextmanager
def _csv(path: Path) -> Iterator[Callable[[Iterable[Any]], Any]]:
    """What writes a row; the file is there when the block ends."""
    from codecs import getwriter

    with atomic_file(path) as file:
        yield csv.writer(getwriter("utf-8")(file, "backslashreplace"), lineterminator="\n").writerow


def _batches(tracks: Mapping[int, Track], most: int) -> Iterator[list[int]]:
    """Ids in their order, as many together as fit into memory, at least one."""
    total = 0

    def batch(number: int) -> int:
        nonlocal total
        total += tracks[number].characters + _IN_A_FRAME * tracks[number].frames
        return total // most

    for _, numbers in groupby(sorted(tracks), batch):
        yield list(numbers)


def _code(record: Record, counts: str) -> dict[str, Any]:
    return {"size": record["size"], "counts": counts.encode("ascii")}
