"""Video cgF1, pHOTA, TETA and average precision on SA-Co VEval, as its official evaluator counts them.

A (video, phrase) pair is to cgF1 what an (image, phrase) pair of Gold is. Two masklets overlap by volume: the sum of
their intersections over all frames, divided by the sum of their unions. Source: SAM 3 paper, the SA-Co benchmark.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError
from litetext.evaluation.average_precision import Ranked, precision_of, rank
from litetext.evaluation.cgf1 import (
    SCORE_THRESHOLD,
    THRESHOLDS,
    UNDEFINED,
    PairCounts,
    Progress,
    Tally,
    count_pair,
    score,
)
from litetext.evaluation.hota import Codes, FramePairs, Teta, average_hota, combine_hota, compare_frames, count_hota
from litetext.evaluation.veval_files import Key, Masklet, Masklets, VideoTruth, read_masklets, read_video_truth

# By the name in the files ``saco_veval_NAME.json`` of the data set facebook/SACo-VEval, in the order of the table.
SETS = {
    f"{name}_{split}": f"{title} {split}"
    for name, title in (("sav", "SA-V"), ("yt1b", "YT-Temporal-1B"), ("smartglasses", "SmartGlasses"))
    for split in ("test", "val")
}
HEADLINE = ("cgf1", "il_mcc", "pmf1", "phota", "teta", "map", "phrase_ap")
_KINDS = ("masks", "boxes")

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VEvalReport:
    """The scores of a VEval set; those from 0 to 1 are -1 where they are undefined.

    Attributes:
        masks: ``cgf1``: the scores of `CgF1.to_json`; ``hota``: HOTA of phrases, and its parts; ``teta``: TETA of
            classes, and its parts; ``ap``: ``map`` over classes, ``phrase_ap``, ``phrase_ap50`` and ``phrase_ap75``.
        boxes: the same for boxes, without TETA.
        videos: for each video its ``cgf1``, ``il_mcc``, ``pmf1`` and ``phota`` of masks.
        pairs: for each (video, phrase) pair, kind by kind, its true positives, false positives, false negatives and F1,
            and its HOTA where something is to be found or was.
    """

    masks: Mapping[str, Mapping[str, Any]]
    boxes: Mapping[str, Mapping[str, Any]]
    videos: Sequence[Mapping[str, Any]]
    pairs: Sequence[Mapping[str, Any]]

    @property
    def headline(self) -> dict[str, float]:
        """`HEADLINE`, the scores of masks that tables print: all to 100, but ``il_mcc`` to 1."""
        return _headline(self.masks)

    def to_json(self) -> dict[str, Any]:
        """The headline, and every attribute."""
        return {**self.headline, "masks": self.masks, "boxes": self.boxes, "videos": self.videos, "pairs": self.pairs}


class Counted(NamedTuple):
    """What is counted of a pair, for one kind."""

    counts: PairCounts
    ranked: Ranked
    hota: Mapping[str, Any] | None  # None where there is nothing, true or found


def evaluate_veval(
    truth: str | Path, predictions: str | Path, progress: Progress = lambda _stage, _share: None
) -> VEvalReport:
    """Score predictions as the official VEval evaluator does.

    Args:
        truth: the ground truth of a set, ``saco_veval_sav_test.json`` for example.
        predictions: JSON, a list of masklets. cgF1 and TETA count those of the score 0.5 or better, HOTA those above.
        progress: called with the stage and the share done, 0..1.

    Raises:
        EvaluationError: a file cannot be read, or they do not belong together.
        MissingExtraError: the extra ``video`` is not installed.
    """
    true = read_video_truth(Path(truth))
    found = read_masklets(Path(predictions), true)
    keys = sorted(true.asked.keys() | true.masklets.keys() | found.keys())
    counted: dict[str, dict[Key, Counted]] = {kind: {} for kind in _KINDS}
    for index, key in enumerate(keys):
        progress("pairs", index / len(keys))
        both = true.masklets.get(key, ()), found.get(key, ())
        frames = true.videos[key[0]].frames
        counted["masks"][key] = count_masks(*both)
        counted["boxes"][key] = _count(*both, *_compare_boxes(*both, frames))
    teta = _count_teta(true, found, progress)
    scores = {kind: _score(pairs) for kind, pairs in counted.items()}
    scores["masks"]["teta"] = teta
    of_videos: defaultdict[int, list[Counted]] = defaultdict(list)
    for key, pair in counted["masks"].items():
        of_videos[key[0]].append(pair)
    videos = [
        {"video_id": number, "name": true.videos[number].name, "pairs": len(pairs), **_score_video(pairs)}
        for number, pairs in of_videos.items()
    ]
    pairs = [
        {
            "video_id": key[0],
            "category_id": key[1],
            "noun_phrase": true.asked.get(key, true.categories[key[1]]),
            **{kind: _describe(counted[kind][key]) for kind in _KINDS},
        }
        for key in keys
    ]
    return VEvalReport(scores["masks"], scores["boxes"], videos, pairs)


def find_veval_sets(truths: Path, predictions: Path) -> dict[str, tuple[Path, Path]]:
    """The files of ground truth and predictions of each set of `SETS` that a folder holds ground truth of.

    Predictions of ``saco_veval_NAME.json`` are ``saco_veval_NAME_preds.json``, ``saco_veval_NAME.json`` or
    ``NAME.json``; the first if there is none.
    """
    sets = {}
    for name in SETS:
        stem = f"saco_veval_{name}"
        named = [predictions / f"{one}.json" for one in (f"{stem}_preds", stem, name)]
        if (truth := truths / f"{stem}.json").is_file():
            sets[name] = truth, next((path for path in named if path.is_file() and path != truth), named[0])
    if not sets:
        hint = "its files are named like saco_veval_sav_test.json"
        raise EvaluationError("no ground truth of SA-Co VEval", where=str(truths), hint=hint)
    return sets


def count_masks(truths: Sequence[Masklet], found: Sequence[Masklet]) -> Counted:
    """Count a pair by masks."""
    return _count(truths, found, *compare_masks(truths, found))


def compare_masks(truths: Sequence[Masklet], found: Sequence[Masklet]) -> tuple[Reals, list[FramePairs]]:
    """The IoU of volumes [P, G] and the things of each frame, by masks."""
    frames = compare_frames([one.codes for one in truths], [one.codes for one in found])
    true_areas, areas = _areas(truths, len(frames)), _areas(found, len(frames))
    shared = np.zeros((len(truths), len(found)))
    for place, frame in enumerate(frames):
        if frame.ious.size:
            both = true_areas[frame.truths, place, None] + areas[frame.found, place]
            # I / (A + B - I) = IoU gives the pixels of the intersection, which are whole, without decoding.
            shared[np.ix_(frame.truths, frame.found)] += np.rint(frame.ious * both / (1 + frame.ious))
    whole = true_areas.sum(axis=1)[:, None] + areas.sum(axis=1) - shared
    ious: Reals = np.divide(shared, whole, out=np.ones_like(shared), where=whole > 0).T
    return ious, frames


def _areas(masklets: Sequence[Masklet], frames: int) -> Reals:
    """Pixels of each masklet in each frame, [N, F]."""
    areas = np.zeros((len(masklets), frames))
    for row, masklet in zip(areas, masklets, strict=True):
        present = [place for place, code in enumerate(masklet.codes) if code is not None]
        if present:
            row[present] = coco_mask.area([masklet.codes[place] for place in present])
    return areas


def _compare_boxes(truths: Sequence[Masklet], found: Sequence[Masklet], frames: int) -> tuple[Reals, list[FramePairs]]:
    """As `compare_masks`, by boxes; in float32, as officially, so that the same IoUs reach a threshold."""
    starts, ends = zip(*(_corners(masklets, frames) for masklets in (truths, found)), strict=True)
    true_areas, areas = ((end - start).prod(axis=-1) for start, end in zip(starts, ends, strict=True))
    low = np.maximum(starts[0][:, None], starts[1][None])
    high = np.minimum(ends[0][:, None], ends[1][None])
    shared = np.maximum(high - low, 0).prod(axis=-1)  # [G, P, F]
    whole = true_areas[:, None] + areas[None] - shared
    volume, union = (sizes.sum(axis=-1, dtype=np.float64).astype(np.float32) for sizes in (shared, whole))
    ious: Reals = np.divide(volume, union, out=np.ones_like(volume), where=union > 0).T.astype(np.float64)
    solid = (whole > 0) & (true_areas[:, None] > 0) & (areas[None] > 0)
    similar = np.divide(shared, whole, out=np.zeros_like(shared), where=solid)
    seen = [np.array([one.boxed for one in masklets]).reshape(-1, frames) for masklets in (truths, found)]
    listed = []
    for place in range(frames):
        rows, columns = (np.flatnonzero(flags[:, place]) for flags in seen)
        listed.append(FramePairs(rows, columns, similar[..., place][np.ix_(rows, columns)]))
    return ious, listed


def _corners(masklets: Sequence[Masklet], frames: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Left top and right bottom of the boxes, each float32 [N, F, 2]."""
    boxes = np.array([one.boxes for one in masklets], dtype=np.float32).reshape(-1, frames, 4)
    return boxes[..., :2], boxes[..., :2] + boxes[..., 2:]


def _count(truths: Sequence[Masklet], found: Sequence[Masklet], ious: Reals, frames: Sequence[FramePairs]) -> Counted:
    """Count a pair from its IoUs [P, G] and its frames."""
    scores, crowds = [one.score for one in found], [one.is_crowd for one in truths]
    values = np.array(scores)
    single = ious[values >= SCORE_THRESHOLD][:, ~np.array(crowds, dtype=np.bool_)]
    ranked, above = rank(ious, scores, crowds), np.flatnonzero(values > SCORE_THRESHOLD)
    if not truths and not len(above):
        return Counted(count_pair(single), ranked, None)
    seen = np.zeros((len(found), len(frames)), dtype=np.bool_)
    for number in above.tolist():
        seen[number] = found[number].boxed & ~found[number].empty
    kept = [
        FramePairs(frame.truths, frame.found[flags], frame.ious[:, flags])
        for flags, frame in ((seen[frame.found, place], frame) for place, frame in enumerate(frames))
    ]
    return Counted(count_pair(single), ranked, count_hota(kept))


def _count_teta(truth: VideoTruth, found: Masklets, progress: Progress) -> dict[str, float]:
    """TETA of masks; its classes are the categories, things of which are in some video."""
    true_ones, found_ones = _by_video(truth.masklets), _by_video(found)
    present = {category for ones in true_ones.values() for category, one in ones if one.boxed.any()}
    teta = Teta(category for category in truth.categories if category in present)
    for index, (number, ones) in enumerate(true_ones.items()):
        progress("TETA", index / len(true_ones))
        others = [(category, one) for category, one in found_ones[number] if one.score >= SCORE_THRESHOLD]
        frames = [one for one in compare_frames(_seen(ones), _seen(others)) if len(one.truths)]
        teta.add(frames, *(np.array([category for category, _ in some], dtype=np.intp) for some in (ones, others)))
    return teta.scores()


def _by_video(masklets: Masklets) -> defaultdict[int, list[tuple[int, Masklet]]]:
    """The masklets of each video with their categories, in the order of the file."""
    ordered = sorted(((one.place, key, one) for key, some in masklets.items() for one in some), key=lambda one: one[0])
    videos: defaultdict[int, list[tuple[int, Masklet]]] = defaultdict(list)
    for _, (video, category), one in ordered:
        videos[video].append((category, one))
    return videos


def _seen(ones: Iterable[tuple[int, Masklet]]) -> list[Codes]:
    """The masks of masklets where they have boxes, too."""
    return [[code if boxed else None for code, boxed in zip(one.codes, one.boxed, strict=True)] for _, one in ones]


def _score(pairs: Mapping[Key, Counted]) -> dict[str, dict[str, Any]]:
    """The scores of one kind, from pairs in the order of their ids."""
    present = {key: pair.ranked for key, pair in pairs.items() if pair.ranked.truths or len(pair.ranked.scores)}
    classes: defaultdict[int, list[Ranked]] = defaultdict(list)
    for (_, category), ranked in present.items():
        classes[category].append(ranked)
    of_classes = [curve for some in classes.values() if (curve := precision_of(some)) is not None]
    phrases = precision_of(list(present.values())) if present else None
    curve = np.full(len(THRESHOLDS), UNDEFINED) if phrases is None else phrases
    return {
        "cgf1": score(Tally.of(pair.counts for pair in pairs.values())).to_json(),
        "hota": combine_hota([pair.hota for pair in pairs.values() if pair.hota is not None]),
        "ap": {
            "map": float(np.mean(of_classes)) if of_classes else UNDEFINED,
            "phrase_ap": float(curve.mean()),
            "phrase_ap50": float(curve[0]),
            "phrase_ap75": float(curve[5]),
        },
    }


def _headline(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    counted, found = scores["cgf1"], scores["ap"]
    shares = scores["hota"]["hota"], scores["teta"]["teta"], found["map"], found["phrase_ap"]
    hundreds = (value if value == UNDEFINED else 100 * value for value in shares)
    return dict(zip(HEADLINE, (counted["cgf1"], counted["il_mcc"], counted["pmf1"], *hundreds), strict=True))


def _score_video(pairs: Sequence[Counted]) -> dict[str, float]:
    hota = combine_hota([pair.hota for pair in pairs if pair.hota is not None])["hota"]
    headline = score(Tally.of(pair.counts for pair in pairs)).headline
    return {**headline, "phota": hota if hota == UNDEFINED else 100 * hota}


def _describe(pair: Counted) -> dict[str, Any]:
    """A pair for the report: counts averaged over the IoU thresholds and at two of them, and HOTA, from 0 to 1."""
    hits, predictions, truths, _ = pair.counts
    both = predictions + truths
    counts = {
        "tp": hits,
        "fp": predictions - hits,
        "fn": truths - hits,
        "f1": 2 * hits / both if both else np.ones(len(THRESHOLDS)),
    }
    levels = (("", slice(None)), ("@0.5", slice(0, 1)), ("@0.75", slice(5, 6)))
    described = {f"{name}{level}": float(curve[at].mean()) for level, at in levels for name, curve in counts.items()}
    return {**described, **({} if pair.hota is None else average_hota(pair.hota))}
