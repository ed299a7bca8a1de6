"""A teacher and a student on the same pictures or clips: their scores, and what of the teacher's the student keeps.

Source: SAM3-LiteText (arXiv 2602.12173), where students keep 96 to 99 % of cgF1 on SA-Co Gold.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import EvaluationError, OptionError
from litetext.evaluation.cgf1 import SCORE_THRESHOLD, CgF1, PairCounts, Tally, match, score
from litetext.evaluation.hota import Codes, score_hota, sum_hota
from litetext.evaluation.labeled_pairs import LabeledClip, LabeledPair, segment_pairs, track_clip
from litetext.evaluation.veval import compare_masks, count_masks
from litetext.evaluation.veval_files import Masklet
from litetext.sam3.masks import encode_masks, mask_ious
from litetext.sam3.segmenter import Segmenter
from litetext.video.tracking import Tracker

Reals = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]


class ClipPair(NamedTuple):
    """A phrase about a clip, as a `LabeledPair` says it: ``picture`` is the clip's name, the truths are masklets."""

    picture: str
    phrase: str
    truths: tuple[Sequence[Codes]]
    clip: LabeledClip


class Answers(NamedTuple):
    """The masks of teacher and student on one pair, and how much they agree, from 0 to 1."""

    pair: Any  # `LabeledPair` or `ClipPair`
    teacher: Sequence[Any]  # masks, `Code`, or masklets, `Codes`
    student: Sequence[Any]
    agreement: float


# Of a picture or clip: the answers, counts of teacher and student on each pair, and `sum_hota` of both of a clip.
_Group = tuple[Sequence[Answers], Sequence[Sequence[PairCounts]], Sequence[Reals]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Counts on the same N pairs with a teacher and with a student."""

    tallies: Sequence[tuple[Tally, Tally]]  # (teacher's, student's) of each picture or clip
    agreements: npt.NDArray[np.float64]  # [N]
    found: npt.NDArray[np.int64]  # [N, 2], masks of the teacher and of the student
    worst: Sequence[Answers]  # the pairs of the lowest agreement below 1, of equal ones other pictures first
    hota: Sequence[Sequence[Reals]] = ()  # of clips: (teacher's, student's) `sum_hota` of each

    @property
    def scores(self) -> tuple[CgF1, CgF1]:
        """Of the teacher and of the student."""
        teacher, student = (score(sum(tallies, Tally.of([]))) for tallies in zip(*self.tallies, strict=True))
        return teacher, student


def compare(
    teacher: Segmenter,
    student: Segmenter,
    pairs: Iterable[LabeledPair],
    worst: int = 0,
    progress: Progress = lambda _stage, _done: None,
) -> Comparison:
    """Segment each pair with both and count; ``worst`` is how many of the worst disagreements to keep, with pictures.

    Both are the same host with other text encoders: the teacher's embeds each picture, for both. The pairs of a picture
    come one after another.
    """

    def groups() -> Iterator[_Group]:
        done = 0
        answered = (_answers(pair, masks) for pair, masks in segment_pairs([teacher, student], pairs))
        for _, group in groupby(answered, key=lambda answers: answers.pair.picture):
            listed = list(group)
            yield listed, [(one.pair.count(one.teacher), one.pair.count(one.student)) for one in listed], ()
            done += len(listed)
            progress("segmenting", float(done))

    return _collect(groups(), worst)


def compare_clips(
    makers: Sequence[Callable[[Iterable[str]], Tracker]],
    clips: Iterable[LabeledClip],
    worst: int = 0,
    progress: Progress = lambda _stage, _done: None,
) -> Comparison:
    """As `compare`, of clips that both track; ``progress`` gets the number of clips."""

    def groups() -> Iterator[_Group]:
        for done, clip in enumerate(clips, start=1):
            tracked = track_clip([make(clip.phrases.values()) for make in makers], clip)
            counted, listed = [], []
            for category, phrase in clip.phrases.items():
                own = [
                    [one for one in found if one.prompt == phrase and one.score >= SCORE_THRESHOLD] for found in tracked
                ]
                found = [[Masklet.of(one.masks, one.score) for one in some] for some in own]
                counted.append([count_masks(clip.truths[category], some) for some in found])
                true, *both = [[one.codes for one in some] for some in (clip.truths[category], *found)]
                agreement = agree(compare_masks(*found)[0])
                listed.append(Answers(ClipPair(clip.name, phrase, (true,), clip), both[0], both[1], agreement))
            hota = [sum_hota(one.hota for one in some if one.hota is not None) for some in zip(*counted, strict=True)]
            yield listed, [[one.counts for one in pair] for pair in counted], hota
            progress("tracking", float(done))

    return _collect(groups(), worst)


def _collect(groups: Iterable[_Group], worst: int) -> Comparison:
    tallies: list[tuple[Tally, Tally]] = []
    hota: list[Sequence[Reals]] = []
    agreements: list[float] = []
    found: list[tuple[int, int]] = []
    kept: list[tuple[int, Answers]] = []  # with how many of the same picture disagree more
    for listed, counts, sums in groups:
        of_teacher, of_student = zip(*counts, strict=True)
        tallies.append((Tally.of(of_teacher), Tally.of(of_student)))
        hota += [sums] if sums else []
        agreements += [answers.agreement for answers in listed]
        found += [(len(answers.teacher), len(answers.student)) for answers in listed]
        own = sorted((one for one in listed if one.agreement < 1), key=lambda answers: answers.agreement)
        kept = heapq.nsmallest(worst, [*kept, *enumerate(own)], key=lambda ranked: (ranked[1].agreement, ranked[0]))
    if not tallies:
        raise EvaluationError("no pairs", hint="give one or more")
    return Comparison(tallies, np.array(agreements), np.array(found), [answers for _, answers in kept], hota)


def agree(ious: npt.NDArray[np.float64]) -> float:
    """Agreement of two sets of masks, IoUs [P, Q]: the sum of the best matching over max(P, Q); 1 of two empty sets."""
    return float(match(ious).sum() / max(ious.shape)) if max(ious.shape) else 1.0


def report_retention(
    comparison: Comparison,
    teacher: EncoderSize,
    student: EncoderSize,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Scores of both, and those of the student in percent of the teacher's, as plain values.

    The last three arguments are those of `retention_interval`.

    Returns:
        ``retention`` is None if the teacher's cgF1 is not above 0, and its ``interval`` if there are too few pictures.
        ``agreement`` is the mean over all pairs, ``agreement_found`` that over the pairs where at least one found
        something, ``presence_agreement`` the share of pairs where both found something, or neither did. Of clips there
        are ``phota``, ``deta`` and ``assa`` too, to 100, and ``phota_interval``; ``clips`` stands for ``pictures``.
    """
    scores = comparison.scores
    kept: dict[str, Any] | None = None
    if scores[0].cgf1 > 0:  # then so are the other two
        kept = {name: percent(ours, scores[0].headline[name]) for name, ours in scores[1].headline.items()}
        interval = retention_interval(comparison.tallies, seed, resamples, level)
        kept["interval"] = None if interval is None else list(interval)
    hota = [score_hota(np.sum(sums, axis=0)) for sums in zip(*comparison.hota, strict=True)] or [{}, {}]
    if kept is not None and comparison.hota:
        kept |= _kept_hota(comparison, hota, (seed, resamples, level))
    found = comparison.found > 0
    either = comparison.agreements[found.any(axis=1)]
    encoders = [
        {"name": size.name, **result.headline, **more, "parameters": size.parameters, "bytes": size.bytes}
        for size, result, more in zip((teacher, student), scores, hota, strict=True)
    ]
    return {
        "teacher": encoders[0],
        "student": encoders[1],
        "retention": kept,
        "agreement": float(comparison.agreements.mean()),
        "agreement_found": float(either.mean()) if len(either) else None,
        "presence_agreement": float((found[:, 0] == found[:, 1]).mean()),
        "parameters": _reduction(teacher.parameters, student.parameters),
        "bytes": _reduction(teacher.bytes, student.bytes),
        "pairs": len(comparison.agreements),
        "clips" if comparison.hota else "pictures": len(comparison.tallies),
        "seed": seed,
        "resamples": resamples,
        "level": level,
        "disagreements": [
            {
                "picture": answers.pair.picture,
                "phrase": answers.pair.phrase,
                "agreement": answers.agreement,
                "true": len(answers.pair.truths[0]),
                "teacher": len(answers.teacher),
                "student": len(answers.student),
            }
            for answers in comparison.worst
        ],
    }


def retention_interval(
    tallies: Sequence[tuple[Tally, Tally]], seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the student's cgF1 in percent of the teacher's.

    Pictures are drawn, not pairs: the pairs of a picture depend on each other. Both are scored on the same draw. A draw
    in which the teacher's cgF1 is not above 0 has no ratio, and counts as the worst on either side.

    Args:
        tallies: (teacher's, student's) of each picture.
        seed: of the drawing.
        resamples: how often pictures are drawn, with replacement.
        level: share of the resamples that the interval holds.

    Returns:
        Lower and upper end; None if there is one picture only, or an end falls on a draw without a ratio.
    """
    parts = [tuple([getattr(tally, field.name) for field in fields(Tally)] for tally in both) for both in tallies]
    return ratio_interval(parts, lambda sums: score(Tally(*sums)).cgf1, seed, resamples, level)


def ratio_interval(
    parts: Sequence[tuple[Sequence[Any], ...]],
    measure: Callable[[list[Any]], float],
    seed: int,
    resamples: int,
    level: float,
) -> tuple[float, float] | None:
    """As `retention_interval`, of what ``measure`` makes of the summed arrays of pictures (teacher's, student's)."""
    if seed < 0 or resamples < 1 or not 0 < level < 1:
        message = f"{resamples} resamples at the level {level} from the seed {seed}"
        raise OptionError(message, hint="give 2000, 0.95 and a seed of 0 or more")
    pictures = len(parts)
    if pictures < 2:
        return None
    teacher, student = (
        [np.array(values) for values in zip(*listed, strict=True)] for listed in zip(*parts, strict=True)
    )
    ratios = np.full(resamples, np.nan)
    for number, times in enumerate(resample(pictures, resamples, seed)):
        whole = measure([np.tensordot(times, values, 1) for values in teacher])
        if whole > 0:
            ratios[number] = percent(measure([np.tensordot(times, values, 1) for values in student]), whole)
    outside = (1 - level) / 2
    undefined = np.isnan(ratios)
    low = np.quantile(np.where(undefined, -np.inf, ratios), outside, method="lower")
    high = np.quantile(np.where(undefined, np.inf, ratios), 1 - outside, method="higher")
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def resample(count: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each of ``count`` pictures is drawn, [count], in each resample of as many with replacement."""
    rng = np.random.default_rng(seed)
    return (rng.multinomial(count, np.full(count, 1 / count)) for _ in range(resamples))


def _kept_hota(
    comparison: Comparison, scores: Sequence[dict[str, float]], drawing: tuple[int, int, float]
) -> dict[str, Any]:
    kept = {name: percent(scores[1][name], whole) if whole else None for name, whole in scores[0].items()}
    parts = [tuple([sums] for sums in both) for both in comparison.hota]
    ends = ratio_interval(parts, lambda sums: score_hota(sums[0])["phota"], *drawing)
    return {**kept, "phota_interval": None if ends is None else list(ends)}


def _answers(pair: LabeledPair, masks: Sequence[Any]) -> Answers:
    teacher, student = (encode_masks(found.masks) for found in masks)
    ious = mask_ious(teacher, student)
    if ious.size:  # two masks without a pixel are the same mask, which pycocotools does not know
        ious[np.outer(coco_mask.area(teacher) == 0, coco_mask.area(student) == 0)] = 1.0
    return Answers(pair, teacher, student, agree(ious))


def _reduction(teacher: int, student: int) -> dict[str, float]:
    return {"teacher": teacher, "student": student, "reduction": 100 - percent(student, teacher)}


def percent(part: float, whole: float) -> float:
    """A part in percent of a whole."""
    return 100 * (part / whole)  # in this order: of itself, everything is exactly 100
