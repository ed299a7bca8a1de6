"""A teacher and a student on the same pairs: their scores, and what of the teacher's is left with the student.

Source: SAM3-LiteText (arXiv 2602.12173), where students keep 96 to 99 % of cgF1 on SA-Co Gold.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import EvaluationError, OptionError
from litetext.evaluation.cgf1 import CgF1, Tally, match, score
from litetext.evaluation.labeled_pairs import LabeledPair, segment_pairs
from litetext.sam3.masks import Code, encode_masks, mask_ious
from litetext.sam3.segmenter import Segmenter


class Answers(NamedTuple):
    """The masks of teacher and student on one pair, and how much they agree, from 0 to 1."""

    pair: LabeledPair
    teacher: Sequence[Code]
    student: Sequence[Code]
    agreement: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Counts on the same N pairs with a teacher and with a student."""

    tallies: Sequence[tuple[Tally, Tally]]  # (teacher's, student's) of each picture
    agreements: npt.NDArray[np.float64]  # [N]
    found: npt.NDArray[np.int64]  # [N, 2], masks of the teacher and of the student
    worst: Sequence[Any]  # the `Answers` of the lowest agreement below 1, the lowest first

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
    progress: Callable[[str, float], None] | None = None,
) -> Comparison:
    """Segment each pair with both and count; ``worst`` is how many of the worst disagreements to keep, with pictures.

    Both are the same host with other text encoders: the teacher's embeds each picture, for both. The pairs of a picture
    come one after another.
    """
    tallies: list[tuple[Tally, Tally]] = []
    agreements: list[float] = []
    found: list[tuple[int, int]] = []
    kept: list[Answers] = []
    answered = (_answers(pair, masks) for pair, masks in segment_pairs([teacher, student], pairs))
    for _, group in groupby(answered, key=lambda answers: answers.pair.picture):
        listed = list(group)
        counts = [(answers.pair.count(answers.teacher), answers.pair.count(answers.student)) for answers in listed]
        of_teacher, of_student = zip(*counts, strict=True)
        tallies.append((Tally.of(of_teacher), Tally.of(of_student)))
        agreements += [answers.agreement for answers in listed]
        found += [(len(answers.teacher), len(answers.student)) for answers in listed]
        disagreements = [*kept, *(answers for answers in listed if answers.agreement < 1)]
        kept = heapq.nsmallest(worst, disagreements, key=lambda answers: answers.agreement)
        if progress is not None:
            progress("segmenting", float(len(agreements)))
    if not tallies:
        raise EvaluationError("no pairs", hint="give one or more")
    return Comparison(tallies, np.array(agreements), np.array(found), kept)


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
        something, ``presence_agreement`` the share of pairs where both found something, or neither did.
    """
    scores = comparison.scores
    kept: dict[str, Any] | None = None
    if scores[0].cgf1 > 0:  # then so are the other two
        kept = {name: percent(ours, scores[0].headline[name]) for name, ours in scores[1].headline.items()}
        interval = retention_interval(comparison.tallies, seed, resamples, level)
        kept["interval"] = None if interval is None else list(interval)
    found = comparison.found > 0
    either = comparison.agreements[found.any(axis=1)]
    encoders = [
        {"name": size.name, **result.headline, "parameters": size.parameters, "bytes": size.bytes}
        for size, result in zip((teacher, student), scores, strict=True)
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
        "pictures": len(comparison.tallies),
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
    rng, even = np.random.default_rng(seed), np.full(pictures, 1 / pictures)
    teacher, student = (
        [np.array(values) for values in zip(*listed, strict=True)] for listed in zip(*parts, strict=True)
    )
    ratios = np.full(resamples, np.nan)
    for number in range(resamples):
        times = rng.multinomial(pictures, even)
        whole = measure([np.tensordot(times, values, 1) for values in teacher])
        if whole > 0:
            ratios[number] = percent(measure([np.tensordot(times, values, 1) for values in student]), whole)
    outside = (1 - level) / 2
    undefined = np.isnan(ratios)
    low = np.quantile(np.where(undefined, -np.inf, ratios), outside, method="lower")
    high = np.quantile(np.where(undefined, np.inf, ratios), 1 - outside, method="higher")
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


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
