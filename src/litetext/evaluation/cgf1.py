"""cgF1: how well every instance of a phrase is found (pmF1), times how well presence is predicted (IL_MCC).

Source: SAM 3 paper, the SA-Co benchmark; the sums, the small terms, the thresholds and the rule for several annotators
are those of the official evaluator, and so are the numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from litetext.assignment import assign
from litetext.errors import EvaluationError
from litetext.evaluation.coco import Annotations, Predictions, Truth, read_annotations, read_predictions
from litetext.evaluation.coco_json import PairId
from litetext.sam3.masks import mask_ious

# Through linspace as COCO does: 0.9 comes out as 0.8999999999999999, which decides ties.
THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
THRESHOLDS.flags.writeable = False
NO_HITS: npt.NDArray[np.int64] = np.zeros(len(THRESHOLDS), dtype=np.int64)
NO_HITS.flags.writeable = False
SCORE_THRESHOLD = 0.5
UNDEFINED = -1.0
_EPSILON, _PRESENCE_EPSILON = 1e-4, 1e-6  # the official evaluator's
_PROGRESS_STEP = 200

Progress = Callable[[str, float], None]
Array = npt.NDArray[np.float64]


class PairCounts(NamedTuple):
    """Counts of one (image, phrase) pair against one annotator."""

    hits: npt.NDArray[np.int64]  # [T], matched predictions of at least each IoU threshold: true positives
    predictions: int  # P; P - hits are false positives
    truths: int  # true masks G; G - hits are false negatives
    misfits: int = 0  # predictions that lie over a true mask of another size; they match none of that size

    @property
    def mean_f1(self) -> float:
        """The local F1, averaged over the thresholds; 1 for a pair that is empty on both sides."""
        if not self.predictions or not self.truths:
            return float(self.predictions == self.truths)
        return _mean_f1(tuple(self.hits.tolist()), self.predictions, self.truths)


@lru_cache(maxsize=4096)  # most pairs have one of a few outcomes
def _mean_f1(hits: tuple[int, ...], predictions: int, truths: int) -> float:
    return float(f1_score(np.array(hits), predictions, truths).mean())


def match(ious: Array) -> Array:
    """The IoUs of the one-to-one matching with the greatest sum.

    From [P, G], predictions by truths, -1 where the masks have different sizes, to [min(P, G)] in the order of the
    predictions.
    """
    rows, columns = assign(ious)
    matched: Array = ious[rows, columns]
    return matched


def count_pair(ious: Array) -> PairCounts:
    """Match a pair and count its hits at every threshold, from IoUs [P, G]; either may be 0."""
    predictions, truths = ious.shape
    if not predictions or not truths:
        return PairCounts(NO_HITS, predictions, truths)
    hits = (match(ious)[:, None] >= THRESHOLDS).sum(axis=0, dtype=np.int64)
    misfits = int((ious < 0).any(axis=1).sum()) if ious.min() < 0 else 0
    return PairCounts(hits, predictions, truths, misfits)


def choose_best(counts: Sequence[PairCounts]) -> PairCounts:
    """The counts of the annotator with the highest F1, of at least one; the first of equals."""
    return counts[0] if len(counts) == 1 else max(counts, key=lambda pair: pair.mean_f1)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Array:
    """Divide part by (whole + 1e-4), elementwise: 0 where both are 0."""
    return np.asarray(part, dtype=np.float64) / (np.asarray(whole, dtype=np.float64) + _EPSILON)


def harmonic(precision: npt.ArrayLike, recall: npt.ArrayLike, epsilon: float = _EPSILON) -> Array:
    """F1 = 2PR / (P + R + epsilon), elementwise."""
    left, right = np.asarray(precision, dtype=np.float64), np.asarray(recall, dtype=np.float64)
    return 2 * left * right / (left + right + epsilon)


def f1_score(hits: npt.NDArray[np.int64], predictions: npt.ArrayLike, truths: npt.ArrayLike) -> Array:
    """F1 at each threshold, [..., T], of hits [..., T] among so many predictions and truths."""
    return harmonic(ratio(hits, predictions), ratio(hits, truths))


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts summed over pairs, most of them [T] at each IoU threshold; two add up to that of all their pairs.

    ``present`` counts pairs with both ground truth and predictions, with predictions only, with neither, with ground
    truth only: the true positives, false positives, true negatives and false negatives of presence.
    """

    hits: npt.NDArray[np.int64]  # [T], true positives
    false_alarms: npt.NDArray[np.int64]  # [T], false positives
    paired_false_alarms: npt.NDArray[np.int64]  # [T], those of pairs that have both ground truth and predictions
    misses: npt.NDArray[np.int64]  # [T], false negatives
    local_f1: Array  # [T], the sum of the local F1 of the pairs that have both
    present: npt.NDArray[np.int64]  # [4]
    misfits: int  # predictions over a true mask of another size, most likely a mistake of who wrote them

    @classmethod
    def of(cls, counts: Iterable[PairCounts]) -> Self:
        """Sum the counts of pairs; of none, zeros."""
        listed = list(counts)
        hits = np.array([pair.hits for pair in listed], dtype=np.int64).reshape(-1, len(THRESHOLDS))
        predictions = np.array([pair.predictions for pair in listed], dtype=np.int64)[:, None]
        truths = np.array([pair.truths for pair in listed], dtype=np.int64)[:, None]
        both = (predictions[:, 0] > 0) & (truths[:, 0] > 0)
        outcomes = (both, (predictions > 0) & (truths == 0), (predictions == 0) & (truths == 0))
        present = [int(outcome.sum()) for outcome in outcomes]
        return cls(
            hits=hits.sum(axis=0),
            false_alarms=(predictions - hits).sum(axis=0),
            paired_false_alarms=(predictions - hits)[both].sum(axis=0),
            misses=(truths - hits).sum(axis=0),
            local_f1=f1_score(hits, predictions, truths)[both].sum(axis=0),
            present=np.array([*present, len(listed) - sum(present)]),
            misfits=sum(pair.misfits for pair in listed),
        )

    def __add__(self, other: Self) -> Self:
        """The tally of the pairs of both."""
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class CgF1:
    """The result of an evaluation on SA-Co Gold.

    Attributes:
        masks: scores of masks by name, [T] at each IoU threshold: cgf1 (from -1 to 1), and from 0 pmf1, pm_precision,
            precision, recall, f1 and positive_macro_f1, which is -1 where no pair has both sides, as officially.
        presence: image-level scores, whether the phrase is there or not: mcc (Matthews' correlation, from -1), and
            from 0 precision, recall, f1 and fpr.
        tally: the counts that they come from.
        ap: COCO's average precision, if it was asked for; see `evaluate_ap`.
    """

    masks: Mapping[str, Array]
    presence: Mapping[str, float]
    tally: Tally
    ap: Mapping[str, float] | None = None

    def __repr__(self) -> str:
        """One line."""
        return f"CgF1({', '.join(f'{name} {value:.4g}' for name, value in self.headline.items())})"

    def _repr_html_(self) -> str:
        from litetext.pages import html_table

        levels = (self.mean, self.at(0.5), self.at(0.75))
        rows = [(name, *(100 * level[name] for level in levels)) for name in ("cgf1", "pmf1", "precision", "recall")]
        caption = f"{self.tally.present.sum():,} (image, phrase) pairs; IL_MCC {self.il_mcc:.4f}"
        return html_table(caption, ("score", "IoU 0.50:0.95", "0.50", "0.75"), rows)

    @property
    def mean(self) -> dict[str, float]:
        """Scores of masks averaged over the IoU thresholds 0.50:0.05:0.95."""
        return {name: float(curve.mean()) for name, curve in self.masks.items()}

    def at(self, threshold: float) -> dict[str, float]:
        """Scores of masks at an IoU threshold."""
        index = int(np.argmin(np.abs(threshold - THRESHOLDS)))
        return {name: float(curve[index]) for name, curve in self.masks.items()}

    @property
    def cgf1(self) -> float:
        """The official cgF1, from -100 to 100."""
        return 100 * float(self.masks["cgf1"].mean())

    @property
    def pmf1(self) -> float:
        """The official pmF1, from 0 to 100."""
        return 100 * float(self.masks["pmf1"].mean())

    @property
    def il_mcc(self) -> float:
        """The official IL_MCC, from -1 to 1."""
        return self.presence["mcc"]

    @property
    def headline(self) -> dict[str, float]:
        """The three official scores by name."""
        return {"cgf1": self.cgf1, "il_mcc": self.il_mcc, "pmf1": self.pmf1}

    def to_json(self) -> dict[str, Any]:
        """``cgf1`` and ``pmf1`` on the official scale to 100; ``raw`` has every score of masks from 0 to 1."""
        levels = {"": self.mean, "@0.5": self.at(0.5), "@0.75": self.at(0.75)}
        names = ("true_positive", "false_positive", "true_negative", "false_negative")
        counts = self.tally.present.tolist()
        return {
            "cgf1": self.cgf1,
            "pmf1": self.pmf1,
            **{f"il_{name}": value for name, value in self.presence.items()},
            "raw": {f"{name}{level}": value for level, scores in levels.items() for name, value in scores.items()},
            "pairs": {"all": sum(counts), **dict(zip(names, counts, strict=True))},
            "misfits": self.tally.misfits,
            **({} if self.ap is None else {"ap": dict(self.ap)}),
        }


def score(tally: Tally) -> CgF1:
    """All scores of a tally."""
    presence = _score_presence(*tally.present.tolist())
    precision = ratio(tally.hits, tally.hits + tally.false_alarms)
    pm_precision = ratio(tally.hits, tally.hits + tally.paired_false_alarms)
    recall = ratio(tally.hits, tally.hits + tally.misses)
    pmf1 = harmonic(pm_precision, recall)
    positives = int(tally.present[0])
    masks = {
        "cgf1": pmf1 * presence["mcc"],
        "pmf1": pmf1,
        "pm_precision": pm_precision,
        "precision": precision,
        "recall": recall,
        "f1": harmonic(precision, recall),
        "positive_macro_f1": tally.local_f1 / positives if positives else np.full(len(THRESHOLDS), UNDEFINED),
    }
    return CgF1(masks, presence, tally)


def _score_presence(both: int, predicted: int, neither: int, missed: int) -> dict[str, float]:
    """Scores of presence from true positives, false positives, true negatives and false negatives."""
    epsilon = _PRESENCE_EPSILON
    precision, recall = both / (both + predicted + epsilon), both / (both + missed + epsilon)
    spread = float(both + predicted) * float(both + missed) * float(neither + predicted) * float(neither + missed)
    return {
        "mcc": (both * neither - predicted * missed) / (spread**0.5 + epsilon),
        "precision": precision,
        "recall": recall,
        "f1": float(harmonic(precision, recall, epsilon)),
        "fpr": predicted / (predicted + neither + epsilon),
    }


def evaluate_gold(truths: Sequence[Truth], predictions: Path, progress: Progress | None = None) -> CgF1:
    """Score predictions as the official SA-Co evaluator does: masks, predictions of the score 0.5 or better.

    Args:
        truths: the ground truth of each annotator (SA-Co Gold has three), COCO JSON of (image, phrase) pairs; or plain
            COCO.
        predictions: COCO results; ``image_id`` is the number of the pair (of plain COCO, of the picture), ``bbox`` may
            be missing.
        progress: called with the stage and the share done, 0..1.
    """
    if not truths:
        raise EvaluationError("no ground truth", hint="give the file of an annotator or more")
    annotators = [read_annotations(truth) for truth in truths]
    predicted = read_predictions(predictions, SCORE_THRESHOLD, annotators[0])
    pairs = choose_pairs(annotators, predicted)
    counts = []
    for index, pair in enumerate(pairs):
        counts.append(choose_best(_count(pair, annotators, predicted)))
        if progress is not None and index % _PROGRESS_STEP == 0:
            progress("pairs", index / len(pairs))
    return score(Tally.of(counts))


def exhaustive_pairs(annotators: Sequence[Annotations]) -> list[PairId]:
    """The pairs that every annotator calls exhaustive, in the order of the first file; all must list the same pairs."""
    first = annotators[0]
    for other in annotators[1:]:
        if differing := first.pairs.keys() ^ other.pairs.keys():
            message = f"pairs that are not in both files: {len(differing)}, one is {min(differing, key=repr)!r}"
            where = f"{first.name} and {other.name}"
            raise EvaluationError(message, where=where, hint="give annotators of the same set")
    chosen = [pair for pair in first.pairs if all(pair in annotator.exhaustive for annotator in annotators)]
    if not chosen:
        where = ", ".join(annotator.name for annotator in annotators)
        raise EvaluationError("no pair is exhaustive for every annotator", where=where, hint="check the files")
    return chosen


def choose_pairs(annotators: Sequence[Annotations], predictions: Predictions) -> list[PairId]:
    """As `exhaustive_pairs`; an `EvaluationError` if the predictions do not belong to them."""
    chosen = exhaustive_pairs(annotators)
    first, where = annotators[0], predictions.name
    if unknown := predictions.pairs - first.pairs.keys():
        message = f"predictions for unknown pairs: {len(unknown)}, one is {min(unknown, key=repr)!r}"
        raise EvaluationError(message, where=where, hint=f"image_id is that of an image in {first.name}")
    if missing := [pair for pair in chosen if predictions.asked is not None and pair not in predictions.asked]:
        message = f"pairs whose picture or phrase is not in it: {len(missing)}, one is {missing[0]!r}"
        raise EvaluationError(message, where=where, hint=f"segment each picture of {first.name} with all its phrases")
    for annotator in annotators:
        categories = annotator.categories
        if categories and (others := predictions.categories - categories):
            message = f"the category_id {min(others)} is not in {annotator.name}"
            raise EvaluationError(message, where=where, hint=f"leave it out, or give {min(categories)}")
    return chosen


def _count(pair: PairId, annotators: Sequence[Annotations], predictions: Predictions) -> list[PairCounts]:
    """The counts of a pair against each annotator."""
    if pair not in predictions.masks:  # then nothing can match: only the number of true masks counts
        return [PairCounts(NO_HITS, 0, len(annotator.masks.get(pair, ()))) for annotator in annotators]
    predicted = predictions.codes(pair, annotators[0].size(pair))
    true = [annotator.codes(pair) for annotator in annotators]
    # All annotators in one call: pycocotools decodes its arguments anew each time.
    ious = mask_ious(predicted, [code for codes in true for code in codes])
    ends = accumulate(map(len, true))
    return [count_pair(ious[:, end - len(codes) : end]) for codes, end in zip(true, ends, strict=True)]
