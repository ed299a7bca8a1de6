"""HOTA and TETA: how well things are found in each frame and followed from one frame to the next.

HOTA is counted by the library `trackeval`. Source: Luiten and others, HOTA, 2021. TETA adds whether each has the right
class, and asks for false positives only where something true is; it has no library. Source: Li and others, Tracking
Every Thing in the Wild, 2022; its sums and its odd rules are those of SA-Co VEval's official evaluator, and so are the
numbers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from litetext.assignment import assign
from litetext.errors import ArrayError, MissingExtraError
from litetext.evaluation.cgf1 import UNDEFINED
from litetext.sam3.masks import Code, encode_masks, mask_ious

HOTA_SCORES = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA")  # as trackeval names them
TETA_SCORES = ("TETA", "LocA", "AssocA", "ClsA", "LocRe", "LocPr", "AssocRe", "AssocPr", "ClsRe", "ClsPr")
_EPSILON = float(np.finfo("float").eps)
_OVERLAP = 0.5  # IoU from which on a prediction can be wrong about a true thing; below it is not counted
_LEVELS = np.arange(0.0, 0.99, 0.05)  # of IoU, [A] for places and tracks; classes are counted from the tenth on
_FIRST = 10

Reals = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Codes = Sequence[Code | None]  # a masklet: a mask for each frame, None where there is none


class FramePairs(NamedTuple):
    """G true things and P predictions that are seen in a frame, by their numbers, and their IoUs [G, P]."""

    truths: Indices
    found: Indices
    ious: npt.NDArray[Any]


def count_hota(frames: Iterable[FramePairs]) -> dict[str, Any]:
    """What trackeval counts of a video, at each IoU from 0.05 to 0.95; frames without anything may be left out."""
    kept = [frame for frame in frames if len(frame.truths) or len(frame.found)]
    true_ids, true_count = _renumber([frame.truths for frame in kept])
    found_ids, found_count = _renumber([frame.found for frame in kept])
    counted: dict[str, Any] = hota_metric().eval_sequence(
        {
            "num_timesteps": len(kept),
            "num_gt_ids": true_count,
            "num_tracker_ids": found_count,
            "num_gt_dets": sum(map(len, true_ids)),
            "num_tracker_dets": sum(map(len, found_ids)),
            "gt_ids": true_ids,
            "tracker_ids": found_ids,
            "similarity_scores": [frame.ious for frame in kept],
        }
    )
    return counted


def combine_hota(counted: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The scores of all videos together, each from 0 to 1 and averaged over the IoUs; -1 without a video."""
    if not counted:
        return dict.fromkeys(map(str.lower, HOTA_SCORES), UNDEFINED)
    return average_hota(hota_metric().combine_sequences(dict(enumerate(counted))))


def average_hota(counted: Mapping[str, Any]) -> dict[str, float]:
    """Scores by name, `HOTA_SCORES` in lower case, averaged over the IoUs."""
    return {name.lower(): float(np.mean(counted[name])) for name in HOTA_SCORES}


def sum_hota(counted: Iterable[Mapping[str, Any]]) -> Reals:
    """True positives, misses, false positives and the summed accuracy of tracks, [4, A]; those of videos add up."""
    names = ("HOTA_TP", "HOTA_FN", "HOTA_FP")
    listed = [[*(one[name] for name in names), one["AssA"] * one["HOTA_TP"]] for one in counted]
    sums: Reals = np.array(listed, dtype=np.float64).reshape(-1, 4, len(_LEVELS) - 1).sum(axis=0)
    return sums


def score_hota(sums: Reals) -> dict[str, float]:
    """pHOTA, DetA and AssA to 100 of the sums of `sum_hota`, as `combine_hota` has them; 0 without anything."""
    hits, misses, alarms, tracks = sums
    found, followed = hits / np.maximum(1, hits + misses + alarms), tracks / np.maximum(1, hits)
    scores = {"phota": np.sqrt(found * followed), "deta": found, "assa": followed}
    return {name: 100 * float(np.mean(values)) for name, values in scores.items()}


def hota_of(truths: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """HOTA of masklets of one video, whatever their phrases.

    Args:
        truths: G masklets: bool [F, H, W], or F masks as compressed RLE with None where there is none.
        predictions: P of them.

    Returns:
        `HOTA_SCORES` in lower case, each from 0 to 1.
    """
    both = [[_codes(masklet) for masklet in masklets] for masklets in (truths, predictions)]
    if len({len(codes) for masklets in both for codes in masklets}) > 1:
        raise ArrayError("masklets of different numbers of frames", hint="give those of one video")
    return average_hota(count_hota(compare_frames(*both)))


def compare_frames(truths: Sequence[Codes], found: Sequence[Codes]) -> list[FramePairs]:
    """The things of each frame and the IoUs of their masks, from G and P masklets of F codes."""
    length = max(map(len, (*truths, *found)), default=0)
    frames = []
    for true, predicted in zip(_by_frame(truths, length), _by_frame(found, length), strict=True):
        ious = mask_ious(list(true.values()), list(predicted.values()))
        frames.append(FramePairs(np.array([*true], dtype=np.intp), np.array([*predicted], dtype=np.intp), ious))
    return frames


def _by_frame(masklets: Sequence[Codes], length: int) -> list[dict[int, Code]]:
    """The codes of each frame by the numbers of their masklets."""
    return [
        {number: code for number, codes in enumerate(masklets) if (code := codes[frame]) is not None}
        for frame in range(length)
    ]


def _codes(masklet: Any) -> Codes:
    if not isinstance(masklet, np.ndarray):
        return list(masklet)
    return [code if mask.any() else None for code, mask in zip(encode_masks(masklet), masklet, strict=True)]


def _renumber(ids: Sequence[Indices]) -> tuple[list[Indices], int]:
    """The same ids from 0 on without gaps, and how many different ones there are."""
    kept = np.unique(np.concatenate([np.zeros(0, dtype=np.intp), *ids]))
    return [np.searchsorted(kept, some) for some in ids], len(kept)


def hota_metric() -> Any:
    """What counts HOTA; a `MissingExtraError` if trackeval is not installed: ask before long work."""
    try:
        from trackeval.metrics.hota import HOTA  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("counting HOTA", "video") from error
    return HOTA()


class Teta:
    """Counts TETA video by video, sparse over the classes: those that a video neither has nor predicts cost nothing.

    Args:
        classes: those of which there is something true anywhere, in the order of their file. Predictions of others
            are never wrong about the class.
    """

    def __init__(self, classes: Iterable[int]) -> None:
        self._sums = {name: _Sums() for name in classes}
        self._order = {name: place for place, name in enumerate(self._sums)}

    def add(self, frames: Sequence[FramePairs], true_classes: Indices, found_classes: Indices) -> None:
        """Count a video.

        Args:
            frames: those in which something is true, masks by IoU; what is predicted in others is not counted.
            true_classes: [G], of all true things of the video.
            found_classes: [P], of all its predictions.
        """
        assigned = _assign(frames)
        false: defaultdict[int, Reals] = defaultdict(lambda: np.zeros(len(_LEVELS) - _FIRST))
        here = {*true_classes.tolist(), *found_classes.tolist()} & self._sums.keys()
        for name in sorted(here, key=self._order.__getitem__):
            own, close = [], []
            for frame, matches in zip(frames, assigned, strict=True):
                rows = true_classes[frame.truths] == name
                own.append(FramePairs(frame.truths[rows], frame.found, frame.ious[rows]))
                # What belongs to a thing of another class does not overlap with one of this class.
                taken = [found for truth, found in matches.items() if true_classes[truth] != name]
                close.append(_overlaps(own[-1]) & ~np.isin(frame.found, taken))
            self._sums[name].add(name, own, close, found_classes, false)
        for name in here:
            self._sums[name].classes[2] += false[name]

    def scores(self) -> dict[str, float]:
        """`TETA_SCORES` in lower case, each from 0 to 1, averaged over the classes and the IoUs; -1 without a class."""
        if not self._sums:
            return dict.fromkeys(map(str.lower, TETA_SCORES), UNDEFINED)
        of_classes = np.array([sums.scores() for sums in self._sums.values()])
        return dict(zip(map(str.lower, TETA_SCORES), of_classes.mean(axis=0).tolist(), strict=True))


class _Sums:
    """The counts of a class: true positives, false negatives and false positives of places [A] and of the class."""

    def __init__(self) -> None:
        self.places = np.zeros((3, len(_LEVELS)))
        self.tracks = np.zeros((3, len(_LEVELS)))  # sums over true positives: accuracy, recall, precision of tracks
        self.classes = np.zeros((3, len(_LEVELS) - _FIRST))

    def add(
        self,
        name: int,
        frames: Sequence[FramePairs],
        close: Sequence[Flags],
        found_classes: Indices,
        false: defaultdict[int, Reals],
    ) -> None:
        """Count a video: its frames with the true things of this class, and which predictions overlap with them.

        ``false`` are the false positives of the classes of the video so far, to which this one adds.
        """
        labels = [found_classes[frame.found] == name for frame in frames]
        if not any(map(np.any, close)):
            # What other classes counted against this one before is dropped, as officially.
            false[name] = np.full(len(_LEVELS) - _FIRST, float(sum(map(np.sum, labels))))
            self.places[1] += sum(len(frame.truths) for frame in frames)
            return
        false[name] += sum(int((label & ~near).sum()) for label, near in zip(labels, close, strict=True))
        followed = _follow(frames, close)
        hits = np.zeros((len(_LEVELS), len(followed.true_count), followed.found_count.size))
        for frame, near, match in zip(frames, close, followed.matches, strict=True):
            hit = match.ious >= _LEVELS[:, None] - _EPSILON
            hits[:, match.truths, match.found] += hit
            count, classes = hit.sum(axis=1), found_classes[frame.found[match.columns]]
            right = classes == name
            self.places += [
                count,
                len(frame.truths) - count,
                near.sum() - hit[:, near[match.columns]].sum(axis=1),
            ]
            self.classes[0] += hit[_FIRST:, right].sum(axis=1)
            self.classes[1] += hit[_FIRST:, ~right].sum(axis=1)
            for place in np.flatnonzero(~right):
                false[int(classes[place])] += hit[_FIRST:, place]
        true, found = followed.true_count, followed.found_count
        self.tracks += [
            (hits * hits / np.maximum(1, whole)).sum(axis=(1, 2)) for whole in (true + found - hits, true, found)
        ]

    def scores(self) -> list[float]:
        """`TETA_SCORES`."""
        places, classes = (
            [float((hit / np.maximum(1, whole)).mean()) for whole in (hit + missed + false, hit + missed, hit + false)]
            for hit, missed, false in (self.places, self.classes)
        )
        tracks = (self.tracks / np.maximum(1, self.places[0])).mean(axis=1).tolist()
        accuracies = [places[0], tracks[0], classes[0]]
        return [sum(accuracies) / 3, *accuracies, *places[1:], *tracks[1:], *classes[1:]]


class _Match(NamedTuple):
    """M matched things of a frame: their numbers, the places of the predictions in the frame, their IoUs."""

    truths: Indices
    found: Indices
    columns: Indices
    ious: Reals


class _Followed(NamedTuple):
    """The matches of each frame, in numbers without gaps, and in how many frames each of G and P is seen."""

    matches: list[_Match]
    true_count: Reals  # [G, 1]
    found_count: Reals  # [1, P]


def _overlaps(frame: FramePairs) -> Flags:
    """Which predictions overlap with a true thing, [P]."""
    close: Flags = np.any(frame.ious >= _OVERLAP, axis=0)
    return close


def _follow(frames: Sequence[FramePairs], close: Sequence[Flags]) -> _Followed:
    """Match frame by frame the predictions that are close somewhere, so that tracks agree as well as they can."""
    ids = np.unique(np.concatenate([frame.found[near] for frame, near in zip(frames, close, strict=True)]))
    columns = [np.flatnonzero(np.isin(frame.found, ids)) for frame in frames]
    ious = [frame.ious[:, kept] for frame, kept in zip(frames, columns, strict=True)]
    truths, true_size = _renumber([frame.truths for frame in frames])
    found, found_size = _renumber([frame.found[kept] for frame, kept in zip(frames, columns, strict=True)])
    agreement = np.zeros((true_size, found_size))
    true_count, found_count = np.zeros((true_size, 1)), np.zeros((1, found_size))
    for some, others, iou in zip(truths, found, ious, strict=True):
        whole = iou.sum(axis=0, keepdims=True) + iou.sum(axis=1, keepdims=True) - iou
        agreement[np.ix_(some, others)] += np.divide(iou, whole, out=np.zeros_like(iou), where=whole > _EPSILON)
        true_count[some] += 1
        found_count[0, others] += 1
    agreement /= true_count + found_count - agreement
    matches = []
    for some, others, iou, kept in zip(truths, found, ious, columns, strict=True):
        left, right = assign(agreement[np.ix_(some, others)] * iou)
        matches.append(_Match(some[left], others[right], kept[right], iou[left, right]))
    return _Followed(matches, true_count, found_count)


def _assign(frames: Sequence[FramePairs]) -> list[dict[int, int]]:
    """The prediction of each true thing, by their numbers, frame by frame, whatever their classes."""
    close = [_overlaps(frame) for frame in frames]
    if not any(map(np.any, close)):
        return [{} for _ in frames]
    numbers = np.unique(np.concatenate([frame.truths for frame in frames]))
    assigned = []
    for frame, match in zip(frames, _follow(frames, close).matches, strict=True):
        good = match.ious >= _OVERLAP - _EPSILON
        truths, found = numbers[match.truths[good]], frame.found[match.columns[good]]
        assigned.append(dict(zip(truths.tolist(), found.tolist(), strict=True)))
    return assigned
