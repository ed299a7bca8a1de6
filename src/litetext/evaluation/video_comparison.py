"""A teacher and a student on the same clips: their video scores, and what of the teacher's is left with the student."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import EvaluationError
from litetext.evaluation.cgf1 import SCORE_THRESHOLD, Tally
from litetext.evaluation.comparison import Comparison, agree, percent, ratio_interval, report_retention
from litetext.evaluation.hota import Codes, score_hota, sum_hota
from litetext.evaluation.labeled_clips import LabeledClip, track_clip
from litetext.evaluation.veval import compare_masks, count_masks
from litetext.evaluation.veval_files import Masklet
from litetext.video.tracking import Tracker

MakeTracker = Callable[[Iterable[str]], Tracker]


class ClipPair(NamedTuple):
    """A phrase about a clip; ``picture`` is the clip's name, ``truths`` has the true masklets, of one annotator."""

    picture: str
    phrase: str
    truths: tuple[Sequence[Codes]]
    clip: LabeledClip


class ClipAnswers(NamedTuple):
    """The masklets of teacher and student on one pair, and how much they agree, from 0 to 1."""

    pair: ClipPair
    teacher: Sequence[Codes]
    student: Sequence[Codes]
    agreement: float


@dataclass(frozen=True, eq=False)
class VideoComparison(Comparison):
    """As `Comparison`, of (clip, phrase) pairs; what counts of pictures counts of clips."""

    hota: Sequence[tuple[npt.NDArray[np.float64], ...]]  # the teacher's and the student's `sum_hota` of each clip


def compare_clips(
    teacher: MakeTracker,
    student: MakeTracker,
    clips: Iterable[LabeledClip],
    worst: int = 0,
    progress: Callable[[str, float], None] = lambda _stage, _done: None,
) -> VideoComparison:
    """Track each clip with a tracker of both and count; ``worst`` is how many of the worst disagreements to keep.

    ``progress`` is told how many clips are done.
    """
    tallies: list[tuple[Tally, Tally]] = []
    hota: list[tuple[npt.NDArray[np.float64], ...]] = []
    agreements: list[float] = []
    found: list[tuple[int, int]] = []
    kept: list[ClipAnswers] = []
    for clip in clips:
        progress("tracking", float(len(tallies)))
        tracked = track_clip([make(clip.phrases.values()) for make in (teacher, student)], clip)
        answers = [_answer(clip, category, tracked) for category in clip.phrases]
        counted = [
            [count_masks(truths, masklets[side]) for truths, masklets, _ in answers] for side in range(len(tracked))
        ]
        of_teacher, of_student = (Tally.of(pair.counts for pair in pairs) for pairs in counted)
        tallies.append((of_teacher, of_student))
        hota.append(tuple(sum_hota(pair.hota for pair in pairs if pair.hota is not None) for pairs in counted))
        agreements += [agreement for *_, agreement in answers]
        found += [(len(masklets[0]), len(masklets[1])) for _, masklets, _ in answers]
        for phrase, (truths, masklets, agreement) in zip(clip.phrases.values(), answers, strict=True):
            if agreement < 1:
                true, own, others = ([one.codes for one in some] for some in (truths, *masklets))
                kept.append(ClipAnswers(ClipPair(clip.name, phrase, (true,), clip), own, others, agreement))
        kept = heapq.nsmallest(worst, kept, key=lambda one: one.agreement)
    if not tallies:
        raise EvaluationError("no clips", hint="give one or more")
    return VideoComparison(tallies, np.array(agreements), np.array(found), kept, hota)


def report_video_retention(
    comparison: VideoComparison,
    teacher: EncoderSize,
    student: EncoderSize,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, Any]:
    """As `report_retention`, with pHOTA, DetA and AssA to 100 beside cgF1, and ``clips`` for pictures.

    ``retention`` has ``phota_interval`` too; its pHOTA, DetA and AssA are None where the teacher's are 0.
    """
    report = report_retention(comparison, teacher, student, seed=seed, resamples=resamples, level=level)
    report["clips"] = report.pop("pictures")
    both = [
        {f"p{name}" if name == "hota" else name: 100 * value for name, value in score_hota(sum(sums)).items()}
        for sums in zip(*comparison.hota, strict=True)
    ]
    for side, scores in zip(("teacher", "student"), both, strict=True):
        report[side] |= scores
    if report["retention"] is not None:
        whole, part = both
        kept = {name: percent(part[name], value) if value else None for name, value in whole.items()}
        parts = [tuple([sums] for sums in sides) for sides in comparison.hota]
        interval = ratio_interval(parts, lambda sums: score_hota(sums[0])["hota"], seed, resamples, level)
        report["retention"] |= {**kept, "phota_interval": None if interval is None else list(interval)}
    return report


def _answer(
    clip: LabeledClip, category: int, tracked: Sequence[Sequence[Any]]
) -> tuple[Sequence[Masklet], list[list[Masklet]], float]:
    """The true masklets of a phrase, those of teacher and student that count, and how much both agree."""
    found = [
        [
            Masklet.of(one.masks, one.score)
            for one in masklets
            if one.prompt == clip.phrases[category] and one.score >= SCORE_THRESHOLD
        ]
        for masklets in tracked
    ]
    return clip.truths.get(category, ()), found, agree(compare_masks(*found)[0])
