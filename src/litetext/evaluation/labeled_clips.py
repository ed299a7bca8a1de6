"""Clips with phrases whose masklets are known, wherever they come from, and what trackers find in them."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EvaluationError, ImageError
from litetext.evaluation.predict import locate
from litetext.evaluation.veval_files import Masklet, Video, VideoTruth, read_video_truth
from litetext.sam3.images import ImageSource, read_image
from litetext.sam3.segmenter import ImageEmbedding, Segmenter
from litetext.storage import inside
from litetext.video import masklets
from litetext.video.masklets import Record, Totals, read_masklets, to_annotation, to_record
from litetext.video.methods import make_tracker
from litetext.video.tracking import Frame, Tracker

FPS = 25.0  # files of VEval have no times, and none of the scores reads them


@dataclass(frozen=True, eq=False)
class LabeledClip:
    """A clip, phrases, and which masklets are right.

    Attributes:
        number: its id.
        name: what it is called.
        length: the number of its frames F.
        read: the pixels of a frame, from 0 on: uint8 [H, W, 3].
        phrases: by the ids of their categories.
        truths: the true masklets of each category, each of F frames; none of one that is absent.
    """

    number: int
    name: str
    length: int
    read: Callable[[int], npt.NDArray[np.uint8]]
    phrases: Mapping[int, str]
    truths: Mapping[int, Sequence[Masklet]]


def read_clips(truth: Path, folders: Sequence[Path]) -> tuple[LabeledClip, ...]:
    """The videos of a VEval set; their frames are looked for in the folders and read when they are asked for."""
    true = read_video_truth(truth)
    asked: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for (number, category), phrase in true.asked.items():
        asked[number][category] = phrase
    owners = {name: f"video {number}" for number in asked for name in _frame_names(true, number)}
    files = locate(owners, folders, "--videos is the folder that file_names start in")
    return tuple(
        LabeledClip(
            number,
            video.name,
            video.frames,
            partial(_read_frame, [files[name] for name in video.files], video),
            asked[number],
            {category: true.masklets.get((number, category), ()) for category in asked[number]},
        )
        for number, video in true.videos.items()
        if number in asked
    )


def track_clip(trackers: Sequence[Tracker], clip: LabeledClip) -> list[list[masklets.Masklet]]:
    """What each tracker finds, all trackers frame by frame together; each frame is read once."""
    places = {phrase: place for place, phrase in enumerate(dict.fromkeys(clip.phrases.values()))}
    found: list[tuple[Totals, list[Record]]] = [(Totals(list(places)), []) for _ in trackers]
    for index in range(clip.length + 1):
        frame = Frame(index, index / FPS, clip.read(index)) if index < clip.length else None
        for tracker, (totals, records) in zip(trackers, found, strict=True):
            for tracked in tracker.finish() if frame is None else tracker.step(frame):
                records.append(to_record(tracked, places))
                totals.add(records[-1])
    return [list(read_masklets(partial(iter, records), totals)) for totals, records in found]


def find_masklets(segmenter: Segmenter, clip: LabeledClip, method: str = "auto") -> list[dict[str, Any]]:
    """The predictions for a clip as VEval has them; ``method`` is one of `make_tracker`."""
    (found,) = track_clip([make_tracker(segmenter, clip.phrases.values(), method)], clip)
    return [
        {"video_id": clip.number, "category_id": category, **to_annotation(masklet)}
        for masklet in found
        for category, phrase in clip.phrases.items()
        if phrase == masklet.prompt
    ]


def share_embeddings(*segmenters: Segmenter) -> list[Segmenter]:
    """The same segmenters of one host, which embed a picture once for all of them that see it one after another."""
    last: list[Any] = [None, None]
    return [_Sharing(segmenter, last) for segmenter in segmenters]


class _Sharing(Segmenter):
    def __init__(self, segmenter: Segmenter, last: list[Any]) -> None:
        super().__init__(segmenter.host, segmenter.encoder, segmenter.processor, segmenter.options)
        self._last = last  # a picture and its embedding

    def embed(self, image: ImageSource) -> ImageEmbedding:
        """As `Segmenter.embed`."""
        if self._last[0] is not image:
            self._last[:] = image, super().embed(image)
        embedding: ImageEmbedding = self._last[1]
        return embedding


def _frame_names(truth: VideoTruth, number: int) -> tuple[str, ...]:
    """The file names of a video's frames, all within the folder of the videos."""
    for name in truth.videos[number].files:
        try:
            inside(Path(), name)
        except (ValueError, TypeError):
            hint = "give paths within the folder of the videos"
            where = f"{truth.name}, video {number}"
            raise EvaluationError(f"'file_names' has {shown(name)}", where=where, hint=hint) from None
    return truth.videos[number].files


def _read_frame(files: Sequence[Path], video: Video, index: int) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(read_image(files[index]))
    if pixels.shape[:2] != video.size:
        (height, width), (rows, columns) = video.size, pixels.shape[:2]
        message = f"{columns} x {rows} pixels where the video has {width} x {height}"
        raise ImageError(message, where=str(files[index]), hint="give the frame that was annotated")
    return pixels
