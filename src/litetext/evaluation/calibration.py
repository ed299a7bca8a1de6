"""Calibration of scores: two shifts fitted on one half of the pictures, and judged on the other.

A small text encoder shifts what SAM3 says of a phrase, and then 0.5 no longer parts what is there from what is not. A
score is that of the class times that of presence, and either may be off: so two numbers are fitted, added to their
logits. cgF1 sees only which candidates are found: a factor of the logits would move little more.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from litetext.errors import EvaluationError
from litetext.evaluation.cgf1 import (
    SCORE_THRESHOLD,
    CgF1,
    PairCounts,
    Tally,
    choose_best,
    count_pair,
    harmonic,
    ratio,
    score,
)
from litetext.evaluation.comparison import resample
from litetext.evaluation.labeled_pairs import LabeledPair
from litetext.sam3.masks import RawMasks, encode_masks, mask_ious, resize_masks
from litetext.sam3.score_shift import shift_scores
from litetext.sam3.segmenter import Segmenter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from litetext.auditing.figures import ReportFigure

Reals = npt.NDArray[np.float64]
FLOOR = 0.001  # lower scores of the class are not looked at
LOGITS = np.arange(-7.0, 8.0)  # as far as the floor
SHIFTS = np.stack(np.meshgrid(LOGITS, LOGITS), axis=-1).reshape(-1, 2)  # of class and presence
NONE = (0.0, 0.0)
RESAMPLES = 100  # of the pictures that shifts are fitted on
LEAST = 20  # pictures
NEAR = 1.0  # point of cgF1
CHANCE = 0.02  # of the resamples in which shifts may be no better than none; docs/explanation/experiments.md
BINS = 10


class ScoredPair(NamedTuple):
    """What a segmenter says of a pair: N candidates, the best first."""

    picture: str
    classes: npt.NDArray[np.float32]  # [N], their scores of the class, above the floor
    presence: float  # the score of the phrase's presence
    counts: Sequence[PairCounts]  # of the n best, n from 0 to N

    def scores(self, shifts: Any) -> Reals:
        """The candidates' scores with each of K shifts of class and presence [K, 2], as [K, N]."""
        by_class, by_presence = np.asarray(shifts, dtype=np.float64).reshape(-1, 2).T[:, :, None]
        classes, presence = self.classes.astype(np.float64), np.float64(self.presence)
        scores: Reals = shift_scores(classes, by_class) * shift_scores(presence, by_presence)
        return scores

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
    scored: list[ScoredPair] = []
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        listed = list(group)
        embedding, phrases = segmenter.embed(listed[0].image), [pair.phrase for pair in listed]
        taught = None if teacher is None else teacher.segment_embedding(embedding, phrases)
        for place, pair in enumerate(listed):
            if place % segmenter.options.prompt_batch == 0:
                batch = phrases[place : place + segmenter.options.prompt_batch]
                raw, row = segmenter.run(embedding, segmenter.rows(batch)), 0
            truths = pair.truths if taught is None else (encode_masks(next(taught).masks),)
            scored.append(_score_pair(pair.picture, raw, row, truths, embedding.size))
            row += 1
            progress("segmenting", float(len(scored)))
    return scored


def _score_pair(
    picture: str, raw: RawMasks, row: int, truths: Sequence[Sequence[Any]], size: tuple[int, int]
) -> ScoredPair:
    classes = raw.classes[row]
    kept = np.argsort(-classes, kind="stable")[: int((classes > FLOOR).sum())]
    ious = [np.zeros((len(kept), 0))]  # where nothing is there no mask is looked at
    if any(truths):
        codes = encode_masks(resize_masks(raw.logits(row, kept), size, 0.5))
        ious = [mask_ious(codes, true) for true in truths]
    counts = [choose_best([count_pair(one[:best]) for one in ious]) for best in range(len(kept) + 1)]
    presence = np.broadcast_to(raw.presence, (len(raw.classes), 1))[row, 0]
    return ScoredPair(picture, classes[kept], float(presence), counts)


def calibrate(pairs: Sequence[ScoredPair], seed: int = 0) -> dict[str, Any]:
    """Fit shifts on the pairs of one half of the pictures, which a seed draws, and judge them on the other.

    Returns:
        Plain values: ``shift`` of the class and ``presence``; ``before`` and ``after``, cgF1 and its parts on
        the other half, each with an ``interval`` of cgF1, as has the ``change``; ``reliability`` of both.
    """
    fitted, others = halve(pairs, seed)
    shifts = fit_shifts(fitted, seed)
    scores, draws = draw_scores(others, [NONE, shifts], seed, 2000)
    ends = np.quantile(np.column_stack([draws, draws[:, 1] - draws[:, 0]]), [0.025, 0.975], axis=0).T.tolist()
    before, after = ({**one.headline, "interval": own} for one, own in zip(scores, ends, strict=False))
    return {
        "shift": shifts[0],
        "presence": shifts[1],
        "before": before,
        "after": after,
        "change": {"cgf1": after["cgf1"] - before["cgf1"], "interval": ends[2]},
        "reliability": {name: reliability(others, own) for name, own in (("before", NONE), ("after", shifts))},
        "pairs": [len(fitted), len(others)],
        "pictures": len({pair.picture for pair in pairs}),
        "seed": seed,
    }


def halve(pairs: Sequence[ScoredPair], seed: int) -> list[list[ScoredPair]]:
    """The pairs of one half of the pictures, which a seed draws, and those of the other."""
    pictures = list(dict.fromkeys(pair.picture for pair in pairs))
    if len(pictures) < LEAST:
        raise EvaluationError(f"{len(pictures)} pictures to calibrate on", hint=f"give {LEAST} or more")
    drawn = {pictures[place] for place in np.random.default_rng(seed).permutation(len(pictures))[::2]}
    return [[pair for pair in pairs if (pair.picture in drawn) is own] for own in (True, False)]


def fit_shifts(pairs: Sequence[ScoredPair], seed: int = 0) -> tuple[float, float]:
    """The middle of the shifts near the highest cgF1, over resamples of pictures; none unless they help in nearly all.

    The surface is flat around its top and jumps with single pairs: the top of one sample would follow those.
    """
    best = np.array(NONE)
    for grid in (SHIFTS, SHIFTS[np.abs(SHIFTS).max(axis=1) <= 4] / 2):
        tried = best + grid
        _, draws = draw_scores(pairs, tried, seed, RESAMPLES)
        is_near = draws >= draws.max(axis=1, keepdims=True) - NEAR
        best = (is_near @ tried / is_near.sum(axis=1, keepdims=True)).mean(axis=0).round(2)
    _, draws = draw_scores(pairs, [NONE, best], seed, RESAMPLES)
    is_sure = np.quantile(draws[:, 1] - draws[:, 0], CHANCE) > 0
    return (float(best[0]), float(best[1])) if is_sure else NONE


def draw_scores(pairs: Sequence[ScoredPair], shifts: Any, seed: int, resamples: int) -> tuple[list[CgF1], Reals]:
    """The scores with each of K shifts [K, 2], and their cgF1 in resamples of the pictures, [resamples, K]."""
    tallies = []
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        listed = list(group)
        found = np.stack([(pair.scores(shifts) >= SCORE_THRESHOLD).sum(axis=1) for pair in listed])  # [P, K]
        distinct, places = np.unique(found, axis=1, return_inverse=True)  # most shifts find the same
        own = [Tally.of(pair.counts[best] for pair, best in zip(listed, one, strict=True)) for one in distinct.T]
        tallies.append([own[place] for place in places.reshape(-1)])
    names = [field.name for field in fields(Tally)]
    parts = [np.array([[getattr(tally, name) for tally in row] for row in tallies]) for name in names]  # [M, K, ...]
    scores = [score(Tally(*values)) for values in zip(*(part.sum(axis=0) for part in parts), strict=True)]
    drawn = resample(len(tallies), resamples, seed)
    return scores, np.array([count_cgf1(*(np.tensordot(times, part, 1) for part in parts)) for times in drawn])


def count_cgf1(
    hits: Reals, _: Any, paired_false_alarms: Reals, misses: Reals, __: Any, present: Reals, ___: Any
) -> Reals:
    """The cgF1 that `score` gives, of K tallies at once: their fields as arrays [K, ...], in order."""
    pmf1 = harmonic(ratio(hits, hits + paired_false_alarms), ratio(hits, hits + misses)).mean(axis=1)
    both, predicted, neither, missed = present.astype(np.float64).T
    spread = (both + predicted) * (both + missed) * (neither + predicted) * (neither + missed)
    return np.asarray(100 * pmf1 * (both * neither - predicted * missed) / (spread**0.5 + 1e-6))


def reliability(pairs: Sequence[ScoredPair], shifts: Any = NONE) -> list[dict[str, Any]]:
    """Of the candidates above the floor by tenths of their shifted score: how many, mean score, share that is right."""
    scores = np.concatenate([pair.scores(shifts)[0] for pair in pairs])
    right = np.concatenate([pair.right for pair in pairs])
    scores, right = scores[scores > FLOOR], right[scores > FLOOR]
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
