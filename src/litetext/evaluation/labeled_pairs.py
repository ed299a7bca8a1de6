"""(Picture, phrase) pairs and clips with known masks, wherever they come from, and what is found in them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, EvaluationError, ImageError
from litetext.evaluation.cgf1 import CgF1, PairCounts, Tally, choose_best, count_pair, exhaustive_pairs, score
from litetext.evaluation.coco import Truth, read_annotations
from litetext.evaluation.coco_json import PairId
from litetext.evaluation.predict import Picture, find_pictures, locate
from litetext.evaluation.veval_files import Masklet, read_video_truth
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.sam3.images import ImageSource
from litetext.sam3.masks import Code, Masks, encode_masks, mask_ious
from litetext.sam3.segmenter import ImageEmbedding, Segmenter
from litetext.video import masklets
from litetext.video.masklets import Record, Totals, read_masklets, to_annotation, to_record
from litetext.video.methods import make_tracker
from litetext.video.tracking import Frame, Tracker

FPS = 25.0  # files of VEval have no times, and none of the scores reads them
Truths = tuple[tuple[Code, ...], ...]


@dataclass(frozen=True, eq=False)
class LabeledPair:
    """A picture, a phrase, and which masks are right."""

    picture: str  # the name of the picture; those of one picture have the same
    image: ImageSource
    phrase: str
    truths: Truths  # the true masks by each annotator, at least one, as compressed RLE of the picture's size

    def count(self, codes: Sequence[Code]) -> PairCounts:
        """The counts of predicted masks, against the annotator with the highest F1."""
        return choose_best([count_pair(mask_ious(codes, true)) for true in self.truths])


@dataclass(frozen=True, eq=False)
class GoldPairs:
    """The pairs of a set of SA-Co Gold; a picture is read when its turn comes, and let go after it."""

    pictures: tuple[Picture, ...]  # every picture with those of its pairs that all annotators call exhaustive
    truths: Mapping[PairId, Truths]

    @classmethod
    def read(cls, annotators: Sequence[Truth], images: Sequence[Path]) -> Self:
        """Read the files of all annotators, with the phrases of the first, and look for each picture in the folders."""
        if not annotators:
            raise EvaluationError("no ground truth", hint="give the file of an annotator or more")
        listed = [read_annotations(truth) for truth in annotators]
        truths = {
            pair: tuple(tuple(annotator.codes(pair)) for annotator in listed) for pair in exhaustive_pairs(listed)
        }
        pictures = (
            replace(picture, phrases={pair: phrase for pair, phrase in picture.phrases.items() if pair in truths})
            for picture in find_pictures(listed[0].pairs, images)
        )
        return cls(tuple(picture for picture in pictures if picture.phrases), truths)

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.truths)

    def __iter__(self) -> Iterator[LabeledPair]:
        """The pairs, those of a picture one after another."""
        for picture in self.pictures:
            image = picture.read()
            for pair, phrase in picture.phrases.items():
                for height, width in (code["size"] for codes in self.truths[pair] for code in codes):
                    if (height, width) != (image.height, image.width):
                        message = f"{image.width} x {image.height} pixels where a true mask has {width} x {height}"
                        raise ImageError(message, where=str(picture.file), hint="give the picture that was annotated")
                yield LabeledPair(picture.name, image, phrase, self.truths[pair])


def segment_pairs(
    segmenters: Sequence[Segmenter], pairs: Iterable[LabeledPair]
) -> Iterator[tuple[LabeledPair, tuple[Masks, ...]]]:
    """Each pair with the masks that each segmenter finds on it; only those of a batch of phrases are held at once.

    The segmenters are one host with several text encoders: the first embeds each picture, for all. The pairs of a
    picture come one after another.
    """
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        listed = list(group)
        embedding, phrases = segmenters[0].embed(listed[0].image), [pair.phrase for pair in listed]
        found = (segmenter.segment_embedding(embedding, phrases) for segmenter in segmenters)
        for pair, *masks in zip(listed, *found, strict=True):
            yield pair, tuple(masks)


@dataclass(frozen=True, eq=False)
class LabeledClip:
    """A clip of F frames, phrases, and which masklets are right."""

    number: int  # its id
    name: str
    length: int  # F
    read: Callable[[int], npt.NDArray[np.uint8]]  # the pixels of a frame, from 0 on, [H, W, 3]
    phrases: Mapping[int, str]  # by the ids of their categories
    truths: Mapping[int, Sequence[Masklet]]  # the true masklets of each category, none of an absent one


def read_clips(truth: Path, folders: Sequence[Path]) -> tuple[LabeledClip, ...]:
    """The videos of a VEval set; their frames are looked for in the folders, and read when they are asked for."""
    true = read_video_truth(truth)
    asked: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for (number, category), phrase in true.asked.items():
        asked[number][category] = phrase
    videos = {number: video for number, video in true.videos.items() if number in asked}
    names = {name: [video.entry] for video in videos.values() for name in video.entry.fields["file_names"]}
    files = locate(names, folders, "file_names", "--videos")
    clips = []
    for number, video in videos.items():
        phrases: dict[Any, str] = asked[number]
        truths = {category: true.masklets.get((number, category), ()) for category in phrases}
        frames = [Picture(name, files[name], video.size, phrases) for name in video.entry.fields["file_names"]]
        read = partial(lambda frames, index: np.asarray(frames[index].read()), frames)
        clips.append(LabeledClip(number, video.name, video.frames, read, phrases, truths))
    return tuple(clips)


def track_clip(trackers: Sequence[Tracker], clip: LabeledClip) -> list[list[masklets.Masklet]]:
    """What each tracker finds, all of them frame by frame together; each frame is read once."""
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
    """The same segmenters of one host; a picture that they see one after another is embedded once."""
    last: list[Any] = [None, None]

    def embed(image: ImageSource) -> ImageEmbedding:
        if last[0] is not image:
            last[:] = image, segmenters[0].embed(image)
        embedding: ImageEmbedding = last[1]
        return embedding

    shared = [copy(segmenter) for segmenter in segmenters]
    for segmenter in shared:
        segmenter.embed = embed  # type: ignore[method-assign]
    return shared


def score_encoder(host: Segmenter, encoder: TextEncoder, pairs: Iterable[LabeledPair]) -> CgF1:
    """Scores of a host that reads the phrases with an encoder."""
    found = segment_pairs([host.with_encoder(encoder)], pairs)
    return score(Tally.of(pair.count(encode_masks(masks.masks)) for pair, (masks,) in found))


@dataclass(frozen=True)
class NullTextEncoder:
    """Stands for a host's text encoder if only others are evaluated: a large one is then never loaded."""

    width: int
    name: str = "no text encoder"
    context_length: int = 2

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Refuse."""
        raise EncoderError(f"{len(texts)} texts for a host without a text encoder", hint="give it one")
