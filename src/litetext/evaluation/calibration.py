"""Calibration of scores: a shift fitted on one half of the pictures, and judged on the other.

A small text encoder shifts what SAM3 says of a phrase, and then 0.5 no longer parts what is there from what is not. Of
maps of the score that keep its ranks, cgF1 sees only which score becomes 0.5: so one number is fitted, added to the
logit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from litetext.errors import EvaluationError
from litetext.evaluation.cgf1 import CgF1, PairCounts, Tally, choose_best, count_pair, score
from litetext.evaluation.labeled_pairs import LabeledPair, segment_pairs
from litetext.sam3.masks import encode_masks, mask_ious
from litetext.sam3.score_shift import shift_scores, threshold_of
from litetext.sam3.segmenter import Segmenter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from litetext.auditing.figures import ReportFigure

FLOOR = 0.001  # lower scores are not looked at
SHIFTS = np.arange(-28, 29) / 4  # as far as the floor
RESAMPLES = 100  # of the pictures that a shift is fitted on
LEAST = 20  # pictures
NEAR = 2.0  # points of cgF1
CHANCE = 0.02  # of the resamples in which a shift may be no better than none; docs/explanation/experiments.md
BINS = 10
Reals = npt.NDArray[np.float64]


class ScoredPair(NamedTuple):
    """What a segmenter says of a pair: N candidates, the best first."""

    picture: str
    scores: npt.NDArray[np.float32]  # [N], above the floor
    counts: Sequence[PairCounts]  # of the n best, n from 0 to N

    def found(self, shift: float) -> PairCounts:
        """The counts of the candidates that are found with a shift."""
        return self.counts[int((self.scores >= threshold_of(shift)).sum())]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """[N], whether a candidate finds, at an IoU of 0.5, what no better one has found."""
        return np.diff([count.hits[0] for count in self.counts]) > 0


def score_pairs(
    segmenter: Segmenter,
    pairs: Iterable[LabeledPair],
    teacher: Segmenter | None = None,
    progress: Callable[[str, float], None] = lambda _stage, _done: None,
) -> list[ScoredPair]:
    """Segment each pair once, as far down as the floor; the pairs of a picture come one after another.

    With a teacher, another encoder in the same model, the masks that it finds stand for the truth.
    """
    asked = [segmenter.with_options(replace(segmenter.options, threshold=FLOOR))]
    asked += [] if teacher is None else [teacher]
    scored = []
    for pair, found in segment_pairs(asked, pairs):
        codes = encode_masks(found[0].masks)
        truths = pair.truths if teacher is None else (encode_masks(found[1].masks),)
        ious = [mask_ious(codes, true) for true in truths]
        counts = [choose_best([count_pair(one[:best]) for one in ious]) for best in range(len(codes) + 1)]
        scored.append(ScoredPair(pair.picture, found[0].scores, counts))
        progress("segmenting", float(len(scored)))
    return scored


def calibrate(pairs: Sequence[ScoredPair], seed: int = 0) -> dict[str, Any]:
    """Fit a shift on the pairs of one half of the pictures, which a seed draws, and judge it on the other.

    Returns:
        Plain values: ``shift`` and the ``threshold`` that becomes 0.5; ``before`` and ``after``, cgF1 and its parts on
        the other half, each with an ``interval`` of cgF1, as has the ``change``; ``reliability`` of both.
    """
    pictures = list(dict.fromkeys(pair.picture for pair in pairs))
    if len(pictures) < LEAST:
        raise EvaluationError(f"{len(pictures)} pictures to calibrate on", hint=f"give {LEAST} or more")
    drawn = {pictures[place] for place in np.random.default_rng(seed).permutation(len(pictures))[::2]}
    fitted, others = ([pair for pair in pairs if (pair.picture in drawn) is own] for own in (True, False))
    shift = fit_shift(fitted, seed)
    scores, draws = draw_scores(others, [0.0, shift], seed, 2000)
    ends = np.quantile(np.column_stack([draws, draws[:, 1] - draws[:, 0]]), [0.025, 0.975], axis=0).T.tolist()
    before, after = ({**one.headline, "interval": own} for one, own in zip(scores, ends, strict=False))
    return {
        "shift": shift,
        "threshold": threshold_of(shift),
        "before": before,
        "after": after,
        "change": {"cgf1": after["cgf1"] - before["cgf1"], "interval": ends[2]},
        "reliability": {name: reliability(others, own) for name, own in (("before", 0.0), ("after", shift))},
        "pairs": [len(fitted), len(others)],
        "pictures": len(pictures),
        "seed": seed,
    }


def fit_shift(pairs: Sequence[ScoredPair], seed: int = 0) -> float:
    """The middle of the shifts near the highest cgF1, over resamples of pictures; 0 unless it helps in nearly all.

    The curve is flat around its top and jumps with single pairs: the top of one sample would follow those.
    """
    _, draws = draw_scores(pairs, SHIFTS, seed, RESAMPLES)
    is_near = draws >= draws.max(axis=1, keepdims=True) - NEAR
    best = float(((is_near * SHIFTS).sum(axis=1) / is_near.sum(axis=1)).mean())
    place, middle = int(np.abs(SHIFTS - best).argmin()), len(SHIFTS) // 2
    is_sure = np.quantile(draws[:, place] - draws[:, middle], CHANCE) > 0
    return float(SHIFTS[place]) if is_sure else 0.0


def draw_scores(
    pairs: Sequence[ScoredPair], shifts: Sequence[float] | Reals, seed: int, resamples: int
) -> tuple[list[CgF1], Reals]:
    """The scores with each of K shifts, and their cgF1 in resamples of the pictures, [resamples, K]."""
    tallies = [
        [Tally.of(pair.found(shift) for pair in group) for shift in shifts]
        for group in ([*group] for _, group in groupby(pairs, key=lambda pair: pair.picture))
    ]
    names = [field.name for field in fields(Tally)]
    parts = [np.array([[getattr(tally, name) for tally in row] for row in tallies]) for name in names]  # [M, K, ...]

    def score_all(times: npt.NDArray[np.int64]) -> list[CgF1]:
        sums = [np.tensordot(times, part, 1) for part in parts]
        return [score(Tally(*values)) for values in zip(*sums, strict=True)]

    count, rng = len(tallies), np.random.default_rng(seed)
    times = rng.multinomial(count, np.full(count, 1 / count), resamples)
    draws = np.array([[one.cgf1 for one in score_all(drawn)] for drawn in times])
    return score_all(np.ones(count, dtype=np.int64)), draws


def reliability(pairs: Sequence[ScoredPair], shift: float = 0.0) -> list[dict[str, Any]]:
    """Of the candidates above the floor by tenths of their shifted score: how many, mean score, share that is right."""
    scores = shift_scores(np.concatenate([pair.scores for pair in pairs]).astype(np.float64), shift)
    right = np.concatenate([pair.right for pair in pairs])
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    rows = []
    for place in range(BINS):
        own = places == place
        count = int(own.sum())
        means = (float(scores[own].mean()), float(right[own].mean())) if count else (None, None)
        rows.append({"from": place / BINS, "candidates": count, "score": means[0], "right": means[1]})
    return rows


def draw_reliability(report: dict[str, Any]) -> "ReportFigure":
    """The share of masks that is right against their score, before and after."""
    from litetext.auditing.figures import draw_figure

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], "--", color="gray", linewidth=0.8)
        for name, rows in report["reliability"].items():
            filled = [row for row in rows if row["candidates"]]
            axes.plot([row["score"] for row in filled], [row["right"] for row in filled], marker="o", label=name)
        axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))

    caption = "On the dashed line a score is the share of masks that are right; right is an IoU of 0.5 with a true one."
    return draw_figure("reliability", "Reliability of scores", caption, draw)
