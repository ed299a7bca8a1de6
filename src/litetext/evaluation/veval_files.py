"""Files of SA-Co VEval: masklets of (video, phrase) pairs, as ground truth and as predictions, checked strictly.

A masklet is a thing through a video: a mask, a box and an area for each frame, null where it is not seen.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from reprlib import repr as shown
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError
from litetext.evaluation.coco import without_gc
from litetext.evaluation.coco_json import Entry, by_id, check_masks, entries, read_json, read_truth
from litetext.sam3.masks import Code

_MOST = 2**24  # pixels of a coordinate: float32, in which the official evaluator computes with boxes, counts so far

Key = tuple[int, int]  # the ids of a video and of a category: a (video, phrase) pair
Flags = npt.NDArray[np.bool_]


class Video(NamedTuple):
    """What is known of a video."""

    name: str
    frames: int
    size: tuple[int, int]  # height and width in pixels
    entry: Entry  # in its file


@dataclass(frozen=True, eq=False)
class Masklet:
    """A thing through the F frames of a video.

    Attributes:
        codes: its masks as compressed RLE, F of them; None where it has none.
        boxes: float32 [F, 4], left, top, width, height in pixels; 0 where it has none.
        boxed: bool [F], where it has a box; it has a mask there too. Boxes of predictions that are 0 are none.
        empty: bool [F], where the file of predictions says that its area is 0.
        score: of a prediction.
        is_crowd: whether it stands for several things; of ground truth.
        place: in the list of the file: where matchings tie, the order decides.
    """

    codes: Sequence[Code | None]
    boxes: npt.NDArray[np.float32]
    boxed: Flags
    empty: Flags
    score: float = 1.0
    is_crowd: bool = False
    place: int = 0

    @classmethod
    def of(cls, codes: Sequence[Code | None], score: float = 1.0) -> Self:
        """A masklet with the boxes of its masks."""
        boxes, boxed = _boxes(codes)
        return cls(codes, boxes, boxed, np.zeros_like(boxed), score)


Masklets = Mapping[Key, Sequence[Masklet]]  # in the order of the file; no entry for a pair without any


@dataclass(frozen=True, eq=False)
class VideoTruth:
    """The ground truth of a VEval set.

    Attributes:
        name: of the file.
        videos: by id.
        categories: name of each category, in the order of the file.
        asked: the phrase of every pair of ``video_np_pairs``, those with nothing to find among them.
        masklets: what there is to find.
    """

    name: str
    videos: Mapping[int, Video]
    categories: Mapping[int, str]
    asked: Mapping[Key, str]
    masklets: Masklets


@without_gc()
def read_video_truth(path: Path) -> VideoTruth:
    """Read ground truth: ``videos``, ``annotations``, ``categories`` and ``video_np_pairs``.

    Raises:
        EvaluationError: the file is not that; ids that are there twice or that nothing has; a masklet without an entry
            for each frame, masks of another size, or a box without a mask.
    """
    document = read_truth(path)
    videos = {entry.take("id", "integer"): _video(entry) for entry in by_id(entries(document, "videos", path)).values()}
    listed = by_id(entries(document, "categories", path)).values()
    categories = {entry.take("id", "integer"): entry.take("name", "text") for entry in listed}
    asked: dict[Key, str] = {}
    for entry in entries(document, "video_np_pairs", path):
        key = _key(entry, videos, categories)
        if key in asked:
            message = f"the pair of video {key[0]} and category {key[1]} is there twice"
            raise EvaluationError(message, where=entry.place, hint="keep one of them")
        asked[key] = entry.take("noun_phrase", "text") if "noun_phrase" in entry.fields else categories[key[1]]
    if not asked:
        raise EvaluationError("no (video, phrase) pairs", where=str(path), hint="list them in video_np_pairs")
    annotations = list(by_id(entries(document, "annotations", path)).values())
    return VideoTruth(str(path), videos, categories, asked, _masklets(annotations, videos, categories))


@without_gc()
def read_masklets(path: Path, truth: VideoTruth) -> Masklets:
    """Read predictions: a list of {video_id, category_id, score, segmentations}, one for each masklet.

    A data set with scores, as `litetext track` writes it, does as well: its videos and phrases are found by their
    names. ``bboxes`` and ``areas`` are counted in the masks where a masklet has none. Errors are those of
    `read_video_truth`.
    """
    document = read_json(path)
    if isinstance(document, dict) and "annotations" in document:
        listed = list(_by_names(document, path, truth))
    elif isinstance(document, list):
        listed = list(entries({"predictions": document}, "predictions", path))
    else:
        hint = "give [{video_id, category_id, score, segmentations, bboxes, areas}, ...]"
        raise EvaluationError("not a list of masklets", where=str(path), hint=hint)
    return _masklets(listed, truth.videos, truth.categories, predicted=True)


def _by_names(document: Mapping[str, Any], path: Path, truth: VideoTruth) -> Iterator[Entry]:
    """The annotations of a data set with the ids of the ground truth, without those of pairs that are not in it."""
    pairs: dict[tuple[str, str], Key] = {}
    for key, phrase in truth.asked.items():
        name = truth.videos[key[0]].name
        if pairs.setdefault((name, phrase), key) != key:
            message = f"two pairs have the video {shown(name)} and the phrase {shown(phrase)}"
            raise EvaluationError(message, where=truth.name, hint="give predictions with its ids, as a list")
    videos, categories = (by_id(entries(document, name, path)) for name in ("videos", "categories"))
    known, unknown = 0, ""
    for entry in entries(document, "annotations", path):
        video, category = (
            videos.get(entry.take("video_id", "integer")),
            categories.get(entry.take("category_id", "integer")),
        )
        if video is None or category is None:
            raise EvaluationError("no video or category has its id", where=entry.place, hint="fix its ids")
        names = video.take("video_name", "text"), category.take("name", "text")
        pair = pairs.get(names)
        if pair is None:
            unknown = unknown or f"its first video is {shown(names[0])}, with the phrase {shown(names[1])}"
        else:
            known += 1
            yield entry._replace(fields={**entry.fields, "video_id": pair[0], "category_id": pair[1]})
    if unknown and not known:
        raise EvaluationError(f"no masklet of a video and phrase of {truth.name}", where=str(path), hint=unknown)


def _video(entry: Entry) -> Video:
    names, size = entry.take("file_names"), entry.size
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise entry.wrong("file_names", "give the names of its frames")
    if size is None:
        raise EvaluationError("a video without a size", where=entry.place, hint="give height and width in pixels")
    if "length" in entry.fields and entry.take("length", "integer") != len(names):
        raise entry.wrong("length", f"it has {len(names)} file_names")
    name = entry.take("video_name", "text") if "video_name" in entry.fields else str(entry.fields["id"])
    return Video(name, len(names), size, entry)


def _key(entry: Entry, videos: Mapping[int, Video], categories: Mapping[int, str]) -> Key:
    """The pair of an entry."""
    video, category = entry.take("video_id", "integer"), entry.take("category_id", "integer")
    if video not in videos:
        raise entry.wrong("video_id", "no video of the ground truth has that id")
    if category not in categories:
        raise entry.wrong("category_id", "no category of the ground truth has that id")
    return video, category


def _masklets(
    listed: Sequence[Entry], videos: Mapping[int, Video], categories: Mapping[int, str], *, predicted: bool = False
) -> Masklets:
    """The masklets of entries by their pairs; all masks are checked together."""
    keys = [_key(entry, videos, categories) for entry in listed]
    given: list[tuple[int, int]] = []  # entry and frame of every mask
    masks: list[Any] = []
    for number, (entry, (video, _)) in enumerate(zip(listed, keys, strict=True)):
        for frame, mask in enumerate(_of_frames(entry, "segmentations", videos[video])):
            if mask is None:
                continue
            if not isinstance(mask, dict) or mask.get("size") != list(videos[video].size):
                message = f"frame {frame} has no mask of {list(videos[video].size)} pixels but {shown(mask)}"
                raise EvaluationError(message, where=entry.place, hint="give RLE of the video's size, or null")
            given.append((number, frame))
            masks.append(mask)
    codes: list[list[Code | None]] = [[None] * videos[video].frames for video, _ in keys]
    checked = check_masks(masks, lambda index: f"{listed[given[index][0]].place}, frame {given[index][1]}")
    for (number, frame), code in zip(given, checked, strict=True):
        codes[number][frame] = code
    masklets = defaultdict(list)
    for entry, key, own in zip(listed, keys, codes, strict=True):
        masklets[key].append(_masklet(entry, videos[key[0]], own, predicted=predicted))
    return dict(masklets)


def _boxes(codes: Sequence[Code | None]) -> tuple[npt.NDArray[np.float32], Flags]:
    """The boxes of masks, float32 [F, 4], and where there are masks, bool [F]."""
    boxed = np.array([code is not None for code in codes], dtype=np.bool_)
    boxes = np.zeros((len(codes), 4), dtype=np.float32)
    if boxed.any():
        boxes[boxed] = coco_mask.toBbox([code for code in codes if code is not None])
    return boxes, boxed


def _masklet(entry: Entry, video: Video, codes: list[Code | None], *, predicted: bool) -> Masklet:
    present = [frame for frame, code in enumerate(codes) if code is not None]
    if "bboxes" in entry.fields:
        boxes, boxed = np.zeros((video.frames, 4), dtype=np.float32), np.zeros(video.frames, dtype=np.bool_)
        frames, values = _numbers(entry, "bboxes", video, 4)
        boxes[frames], boxed[frames] = values, True
    else:
        boxes, boxed = _boxes(codes)
    if predicted:
        boxed &= boxes.any(axis=1)
    if lonely := [frame for frame in np.flatnonzero(boxed) if codes[frame] is None]:
        message = f"frame {lonely[0]} has a box and no mask"
        raise EvaluationError(message, where=entry.place, hint="give null for both where nothing is seen")
    if not predicted:
        is_crowd = "iscrowd" in entry.fields and bool(entry.take("iscrowd", "flag"))
        return Masklet(codes, boxes, boxed, np.zeros_like(boxed), is_crowd=is_crowd, place=entry.position)
    empty = np.zeros_like(boxed)
    if "areas" in entry.fields:
        frames, values = _numbers(entry, "areas", video, 1)
        empty[frames] = values[:, 0] == 0
    elif present:
        empty[present] = coco_mask.area([codes[frame] for frame in present]) == 0
    return Masklet(codes, boxes, boxed, empty, float(entry.take("score", "real")), place=entry.position)


def _of_frames(entry: Entry, key: str, video: Video) -> list[Any]:
    """A list of the entry with a value for each frame of its video."""
    listed = entry.take(key)
    if not isinstance(listed, list) or len(listed) != video.frames:
        count = f"a list of {len(listed)}" if isinstance(listed, list) else shown(listed)
        message = f"'{key}' is {count} for {video.frames} frames"
        raise EvaluationError(message, where=entry.place, hint="give one for each frame, null where nothing is seen")
    return listed


def _numbers(entry: Entry, key: str, video: Video, width: int) -> tuple[list[int], npt.NDArray[np.float64]]:
    """The frames of which a list gives numbers, N of them, and the numbers [N, width]; sizes are not negative."""
    given = {frame: value for frame, value in enumerate(_of_frames(entry, key, video)) if value is not None}
    rows = list(given.values()) if width > 1 else [[value] for value in given.values()]
    if all(isinstance(row, list) and len(row) == width for row in rows) and {*map(type, chain(*rows))} <= {int, float}:
        try:
            values = np.array(rows, dtype=np.float64).reshape(-1, width)
        except OverflowError:  # an integer beyond any float
            values = np.full((1, width), np.inf)
        if (np.abs(values) <= (_MOST if width > 1 else _MOST**2)).all() and (values[:, -2:] >= 0).all():
            return list(given), values
    what = "x, y, width, height" if width > 1 else "pixels"
    raise entry.wrong(key, f"give {what} of each frame, or null")
