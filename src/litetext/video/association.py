"""Tracking by detection: what an image segmenter finds in each frame becomes tracks, without weights for tracking.

A track is moved along with its velocity and gets the detection that it overlaps most, all tracks of a phrase at once.
Those that are left get the nearest detection that is left. Sources: Bewley and others, SORT, 2016; Zhang and others,
ByteTrack, 2022 (a track goes on with a weak detection, with which none begins).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from litetext.assignment import assign
from litetext.errors import OptionError
from litetext.features.encode import valid_rows
from litetext.sam3.segmenter import Segmenter, check_prompts
from litetext.video.edges import pack_masks, unpack_masks
from litetext.video.postprocess import suppress
from litetext.video.tracking import Frame, TrackedFrame, copy_state

# Tuned on validation clips of the micro world (docs/explanation/video.md).
OVERLAP = 0.1  # IoU of a mask, moved along, with a detection from which on they can be the same thing
REACH, REACH_GROWTH = 2.0, 2.0  # how far what does not overlap may be, in sides of a thing; more for each frame unseen
VELOCITY_GAIN = 0.1  # weight of the newest step in the velocity, once there are ten
CUT_PIXELS, CUT_COLORS = 0.08, 0.2  # mean difference of pixels, and share of them of another color, from a cut on
THUMBNAIL = 64

Reals = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AssociationOptions:
    """How to make tracks of detections; an `OptionError` for a value that makes no sense."""

    begin: float = 0.5  # a track begins with a detection of a score above it
    go_on: float = 0.2  # and goes on with scores above it
    sure: float = 0.7  # a track is shown while the mean of its scores so far is at least this
    duplicate_iou: float = 0.7  # of two detections of a phrase that overlap more, the better one stays
    hits: int = 3  # detections that a track needs to be shown
    delay: int = 4  # frames that answers are held back, in which a track may get them
    patience: int = 30  # frames that a thing may be unseen before its track ends
    refine_edges: bool | None = None  # masks follow the edges of the picture; None: if they are coarse (`make_masks`)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("begin", "go_on", "sure", "duplicate_iou"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} of {getattr(self, name)}", hint="give at least 0 and less than 1")
        if self.go_on > self.begin:
            raise OptionError(f"go_on of {self.go_on} above begin of {self.begin}", hint="give at most begin")
        for name, least in (("hits", 1), ("delay", 0), ("patience", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"{name} of {getattr(self, name)}", hint=f"give at least {least}")


class Found(NamedTuple):
    """N detections of a phrase in a frame: scores [N] and mask logits [N, h, w] as the model gives them."""

    scores: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float16]


@dataclass
class _Track:
    prompt: str
    begun: int  # the frame, those that are left out not counted
    mask: Bools  # as it was seen last, [h, w]; places and lengths are in its cells
    center: Reals
    side: float
    velocity: Reals = field(default_factory=lambda: np.zeros(2))
    hits: int = 1
    total: float = 0.0  # of its scores
    missed: int = 0  # frames since it was seen
    has_ended: bool = False

    @property
    def ahead(self) -> Reals:
        """Where it should be now."""
        moved: Reals = self.center + self.velocity * (self.missed + 1)
        return moved


class Associator:
    """Joins the detections of a segmenter, frame by frame; a `Tracker`.

    A phrase is encoded once. A frame is embedded once, and the phrases go through the decoder in batches. Tracks of
    one phrase know nothing of those of another.

    Args:
        segmenter: any.
        prompts: phrases to begin with.
        options: thresholds, delay and patience.

    Raises:
        OptionError: what is no phrase.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        prompts: str | Iterable[str] = (),
        options: AssociationOptions = AssociationOptions(),
    ) -> None:
        self.segmenter, self.options = segmenter, options
        self._features: dict[str, Any] = {}
        self._tracks: dict[int, _Track] = {}  # those that go on, and those that frames held back have
        self._held: list[dict[str, Any]] = []
        self._thumbnail: npt.NDArray[np.uint8] | None = None
        self._count = self._last = 0  # frames so far, and the last id
        self.add(prompts)

    def add(self, prompts: str | Iterable[str]) -> None:
        """See `Tracker`."""
        for prompt in check_prompts(prompts):
            if prompt not in self._features:
                # Read alone, so that its features do not depend on when it came.
                self._features[prompt] = valid_rows(self.segmenter.encoder, [prompt])[0]

    def drop(self, prompts: str | Iterable[str]) -> None:
        """See `Tracker`."""
        for prompt in check_prompts(prompts):
            self._features.pop(prompt, None)
            self._end(prompt)

    def step(self, frame: Frame) -> Sequence[TrackedFrame]:
        """See `Tracker`."""
        thumbnail = _thumbnail(frame.pixels)
        if self._thumbnail is not None and _is_cut(self._thumbnail, thumbnail):
            self._end()
        self._thumbnail = thumbnail
        shown: list[tuple[int, float, npt.NDArray[np.float16]]] = []
        for prompt, found in self._detect(frame).items():
            shown += self._follow(prompt, found)
        ids, scores, logits = zip(*shown, strict=True) if shown else ((), (), ())
        options, size = self.options, list(frame.pixels.shape[:2])
        masks = pack_masks(frame.pixels, logits, self.segmenter.options.mask_threshold, options.refine_edges)
        held = {"ids": list(ids), "scores": list(scores), "masks": masks}
        self._held.append({"index": frame.index, "time": frame.time, "size": size, **held})
        self._count += 1
        return self._release(options.delay)

    def finish(self) -> Sequence[TrackedFrame]:
        """See `Tracker`."""
        return self._release(0)

    def state(self) -> dict[str, Any]:
        """See `Tracker`; what it holds is never changed later."""
        state: dict[str, Any] = {"prompts": list(self._features), "held": self._held, "thumbnail": self._thumbnail}
        state["tracks"] = [{"id": number, **vars(track)} for number, track in self._tracks.items()]
        return dict(copy_state({**state, "count": self._count, "last": self._last}))

    def restore(self, state: dict[str, Any]) -> None:
        """See `Tracker`."""
        state = copy_state(state)
        self._features = {}
        self.add(state["prompts"])
        self._tracks = {track.pop("id"): _Track(**track) for track in state["tracks"]}
        self._held, self._thumbnail = state["held"], state["thumbnail"]
        self._count, self._last = state["count"], state["last"]

    def _detect(self, frame: Frame) -> dict[str, Found]:
        """What is found of each phrase, with any score that a track can go on with."""
        found: dict[str, Found] = {}
        prompts = list(self._features)
        if not prompts:
            return found
        embedding = self.segmenter.embed(frame.pixels)
        step = self.segmenter.options.prompt_batch
        for batch in (prompts[start : start + step] for start in range(0, len(prompts), step)):
            raw = self.segmenter.run(embedding, [self._features[prompt] for prompt in batch])
            for row, prompt in enumerate(batch):
                kept = np.flatnonzero(raw.scores[row] > self.options.go_on)
                found[prompt] = Found(raw.scores[row, kept], raw.logits(row, kept).astype(np.float16))
        return found

    def _follow(self, prompt: str, found: Found) -> list[tuple[int, float, npt.NDArray[np.float16]]]:
        """Give the detections of a phrase to its tracks, old and new: the id, the score and the logits of each."""
        options = self.options
        scores, logits, centers, sides = _tidy(found, options)
        masks = logits > 0
        ids = [number for number, one in self._tracks.items() if one.prompt == prompt and not one.has_ended]
        pairs = dict(self._match([self._tracks[number] for number in ids], masks, centers)) if ids else {}
        for place, number in enumerate(ids):
            track = self._tracks[number]
            if place not in pairs:
                track.missed += 1
                track.has_ended = track.missed > (options.patience if track.hits >= options.hits else options.delay)
                continue
            one = pairs[place]
            step = (centers[one] - track.center) / (track.missed + 1)
            track.velocity = track.velocity + max(VELOCITY_GAIN, 1 / track.hits) * (step - track.velocity)
            track.mask, track.center, track.side, track.missed = masks[one], centers[one], float(sides[one]), 0
            track.hits += 1
            track.total += float(scores[one])
        taken = {one: ids[place] for place, one in pairs.items()}
        for one in range(len(scores)):
            if one not in taken and scores[one] > options.begin:
                self._last += 1
                taken[one] = self._last
                track = _Track(prompt, self._count, masks[one], centers[one], float(sides[one]))
                track.total = float(scores[one])
                self._tracks[self._last] = track
        return [(taken[one], float(scores[one]), logits[one]) for one in sorted(taken, key=taken.__getitem__)]

    @staticmethod
    def _match(tracks: Sequence[_Track], masks: Bools, centers: Reals) -> list[tuple[int, int]]:
        """Pairs of a track and a detection."""
        moved = np.stack([_move(track.mask, track.ahead - track.center) for track in tracks])
        overlaps = _ious(moved, masks)
        pairs = _assign(overlaps, overlaps > OVERLAP)
        far = np.linalg.norm(np.stack([track.ahead for track in tracks])[:, None] - centers, axis=2)
        far /= np.array([track.side for track in tracks])[:, None]
        near = far < REACH + REACH_GROWTH * np.array([track.missed for track in tracks])[:, None]
        for row, column in pairs:
            near[row] = near[:, column] = False
        return pairs + _assign(-far, near)

    def _end(self, prompt: str | None = None) -> None:
        """End all tracks, or those of a phrase."""
        for track in self._tracks.values():
            track.has_ended |= prompt is None or track.prompt == prompt

    def _release(self, keep: int) -> list[TrackedFrame]:
        """Settle the frames that are held back, but for the last ``keep``, and forget what only they had."""
        released = []
        while len(self._held) > keep:
            released.append(self._settle(self._held.pop(0)))
        held = {number for frame in self._held for number in frame["ids"]}
        self._tracks = {n: track for n, track in self._tracks.items() if n in held or not track.has_ended}
        return released

    def _settle(self, held: dict[str, Any]) -> TrackedFrame:
        kept = [place for place, number in enumerate(held["ids"]) if self._is_believed(self._tracks[number])]
        masks = unpack_masks([held["masks"][place] for place in kept], held["size"])
        seen = np.asarray(masks.any(axis=(1, 2)))
        places = [place for place, is_seen in zip(kept, seen, strict=True) if is_seen]
        ids = np.array([held["ids"][place] for place in places], dtype=np.int64)
        prompts = tuple(self._tracks[number].prompt for number in ids.tolist())
        scores = np.array([held["scores"][place] for place in places], dtype=np.float32)
        return TrackedFrame(held["index"], held["time"], ids, prompts, scores, masks[seen])

    def _is_believed(self, track: _Track) -> bool:
        """Whether it has hits enough, of those that it could have had by now."""
        could = min(self.options.hits, self._count - track.begun)
        return track.hits >= could and track.total >= track.hits * self.options.sure


def _tidy(found: Found, options: AssociationOptions) -> tuple[Any, npt.NDArray[np.float16], Reals, Reals]:
    """Detections without duplicates and empty masks, in an order of their own; and the center and side of each."""
    kept = np.flatnonzero((found.logits > 0).any(axis=(1, 2)) & (found.scores > options.go_on))
    scores, logits = found.scores[kept], found.logits[kept]
    centers, sides = _places(logits > 0)
    order = np.lexsort((*centers.T, -scores))
    masks = logits[order] > 0
    order = order[suppress(_ious(masks, masks), scores[order], options.duplicate_iou)]
    return scores[order], logits[order], centers[order], sides[order]


def _places(masks: Bools) -> tuple[Reals, Reals]:
    """Of masks [N, h, w] that are not empty, the centers [N, 2] as row and column, and the square roots of areas."""
    areas = masks.sum(axis=(1, 2))
    along = [masks.sum(axis=3 - axis) @ np.arange(masks.shape[axis]) for axis in (1, 2)]
    return np.stack(along, axis=1) / np.maximum(areas, 1)[:, None], np.sqrt(areas)


def _ious(some: Bools, others: Bools) -> Reals:
    """IoU [N, M] of masks [N, h, w] and [M, h, w]."""
    one, other = (masks.reshape(len(masks), masks[0].size if len(masks) else 0) for masks in (some, others))
    if not len(one) or not len(other):
        return np.zeros((len(one), len(other)))
    both = one.astype(np.float32) @ other.T.astype(np.float32)
    either = one.sum(axis=1)[:, None] + other.sum(axis=1) - both
    return np.asarray(both / np.maximum(either, 1), dtype=np.float64)


def _assign(gains: Reals, allowed: Bools) -> list[tuple[int, int]]:
    """Pairs of a row and a column that are allowed, as many as there can be, with the largest sum of gains."""
    rows, columns = assign(np.where(allowed, gains, -1e6))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]


def _move(mask: Bools, by: Reals) -> Bools:
    """A mask [h, w] moved by so many rows and columns, to the nearest cell; what leaves it is lost."""
    moved = np.zeros_like(mask)
    steps = [int(np.clip(np.rint(step), -length, length)) for step, length in zip(by, mask.shape, strict=True)]
    ends = list(zip(steps, mask.shape, strict=True))
    to = tuple(slice(max(step, 0), length + min(step, 0)) for step, length in ends)
    moved[to] = mask[tuple(slice(max(-step, 0), length - max(step, 0)) for step, length in ends)]
    return moved


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    rows, columns = (np.arange(THUMBNAIL) * length // THUMBNAIL for length in pixels.shape[:2])
    small: npt.NDArray[np.uint8] = pixels[np.ix_(rows, columns)]
    return small


def _is_cut(before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8]) -> bool:
    """Whether both the pixels and the colors are others: a moving camera keeps the colors, a lamp the pixels."""
    pixels = np.abs(before.astype(np.float32) - now).mean() / 255
    counts = [np.bincount((image // 64 @ np.array([16, 4, 1])).ravel(), minlength=64) for image in (before, now)]
    return bool(pixels > CUT_PIXELS and np.abs(counts[0] - counts[1]).sum() / 2 > CUT_COLORS * THUMBNAIL**2)
