"""cgF1: how well every instance of a phrase is found (pmF1), times how well presence is told (IL_MCC).

Source: SAM 3 paper, the SA-Co benchmark; the sums, the small terms and the rule for several annotators are those of the
official evaluator, and so are the numbers.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from litetext.errors import EvaluationError
from litetext.evaluation.coco import (
    Annotations,
    Pair,
    Predictions,
    encode,
    overlap,
    read_annotations,
    read_predictions,
)
from litetext.evaluation.coco_json import PairId
from litetext.evaluation.matching import (
    NO_HITS,
    THRESHOLDS,
    PairCounts,
    choose_best,
    count_pair,
    f1_score,
    harmonic,
    ratio,
)
from litetext.evaluation.rle import Segmentation

SCORE_THRESHOLD = 0.5
UNDEFINED = -1.0
_PRESENCE_EPSILON = 1e-6
_PROGRESS_STEP = 200

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts summed over pairs; two of them add up to that of all their pairs.

    Attributes:
        hits: int64 [T], true positives at each IoU threshold.
        false_alarms: int64 [T], false positives.
        paired_false_alarms: int64 [T], false positives of pairs that have both ground truth and predictions.
        misses: int64 [T], false negatives.
        local_f1: float64 [T], the sum of the local F1 of the pairs that have both.
        present: int64 [4], pairs with both, with predictions only, with neither, with ground truth only: the true
            positives, false positives, true negatives and false negatives of presence.
        misfits: predictions over a true mask of another size, most likely a mistake of who wrote them.
    """

    hits: npt.NDArray[np.int64]
    false_alarms: npt.NDArray[np.int64]
    paired_false_alarms: npt.NDArray[np.int64]
    misses: npt.NDArray[np.int64]
    local_f1: npt.NDArray[np.float64]
    present: npt.NDArray[np.int64]
    misfits: int

    @classmethod
    def of(cls, counts: Iterable[PairCounts]) -> Self:
        """Sum the counts of pairs; of none, zeros."""
        listed = list(counts)
        hits = np.array([one.hits for one in listed], dtype=np.int64).reshape(-1, len(THRESHOLDS))
        predictions = np.array([one.predictions for one in listed], dtype=np.int64)[:, None]
        truths = np.array([one.truths for one in listed], dtype=np.int64)[:, None]
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
            misfits=sum(one.misfits for one in listed),
        )

    def __add__(self, other: Self) -> Self:
        """The tally of the pairs of both."""
        return type(self)(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class MaskScores:
    """Scores of masks, each from 0 to 1 (cgf1 from -1), at one IoU threshold or averaged over all.

    ``positive_macro_f1`` is -1 where no pair has both ground truth and predictions, as in the official evaluator.
    """

    cgf1: float
    pmf1: float
    pm_precision: float
    precision: float
    recall: float
    f1: float
    positive_macro_f1: float


@dataclass(frozen=True)
class PresenceScores:
    """Image-level scores: is the phrase there or not; from 0 to 1, ``mcc`` (Matthews' correlation) from -1."""

    mcc: float
    precision: float
    recall: float
    f1: float
    fpr: float


@dataclass(frozen=True, eq=False)
class CgF1:
    """The result of an evaluation on SA-Co Gold.

    Attributes:
        mean: scores averaged over the IoU thresholds 0.50:0.05:0.95.
        at_50: scores at the IoU threshold 0.5.
        at_75: scores at the IoU threshold 0.75.
        presence: scores of presence, over all pairs.
        tally: the counts that they come from.
    """

    mean: MaskScores
    at_50: MaskScores
    at_75: MaskScores
    presence: PresenceScores
    tally: Tally

    @property
    def cgf1(self) -> float:
        """The official cgF1, from -100 to 100."""
        return 100 * self.mean.cgf1

    @property
    def pmf1(self) -> float:
        """The official pmF1, from 0 to 100."""
        return 100 * self.mean.pmf1

    @property
    def il_mcc(self) -> float:
        """The official IL_MCC, from -1 to 1."""
        return self.presence.mcc

    @property
    def headline(self) -> dict[str, float]:
        """The three official scores by name."""
        return {"cgf1": self.cgf1, "il_mcc": self.il_mcc, "pmf1": self.pmf1}

    def to_json(self) -> dict[str, Any]:
        """``cgf1`` and ``pmf1`` on the official scale to 100; ``raw`` has every score of masks from 0 to 1."""
        raw = asdict(self.mean)
        for level, scores in (("0.5", self.at_50), ("0.75", self.at_75)):
            raw |= {f"{name}@{level}": value for name, value in asdict(scores).items()}
        presence = {f"il_{name}": value for name, value in asdict(self.presence).items()}
        names = ("true_positive", "false_positive", "true_negative", "false_negative")
        pairs = {"all": int(self.tally.present.sum()), **dict(zip(names, self.tally.present.tolist(), strict=True))}
        return {
            "cgf1": self.cgf1,
            "pmf1": self.pmf1,
            **presence,
            "raw": raw,
            "pairs": pairs,
            "misfits": self.tally.misfits,
        }


def score(tally: Tally) -> CgF1:
    """All scores of a tally."""
    presence = _score_presence(*tally.present.tolist())
    precision = ratio(tally.hits, tally.hits + tally.false_alarms)
    pm_precision = ratio(tally.hits, tally.hits + tally.paired_false_alarms)
    recall = ratio(tally.hits, tally.hits + tally.misses)
    pmf1 = harmonic(pm_precision, recall)
    found = int(tally.present[0])
    curves = {
        "cgf1": pmf1 * presence.mcc,
        "pmf1": pmf1,
        "pm_precision": pm_precision,
        "precision": precision,
        "recall": recall,
        "f1": harmonic(precision, recall),
        "positive_macro_f1": tally.local_f1 / found if found else np.full(len(THRESHOLDS), UNDEFINED),
    }

    def at(threshold: float) -> MaskScores:
        index = int(np.argmin(np.abs(threshold - THRESHOLDS)))
        return MaskScores(**{name: float(curve[index]) for name, curve in curves.items()})

    mean = MaskScores(**{name: float(curve.mean()) for name, curve in curves.items()})
    return CgF1(mean, at(0.5), at(0.75), presence, tally)


def evaluate_gold(truths: Sequence[Path], predictions: Path, progress: Progress | None = None) -> CgF1:
    """Score predictions as the official SA-Co evaluator does: masks, predictions of the score 0.5 or better.

    Args:
        truths: the ground truth of each annotator (SA-Co Gold has three), COCO JSON of (image, phrase) pairs.
        predictions: COCO results; ``image_id`` is the number of the pair, ``bbox`` may be missing.
        progress: told the stage and the share done.

    Raises:
        EvaluationError: a file cannot be read, or the files do not belong together.
    """
    if not truths:
        raise EvaluationError("no ground truth", hint="give the file of an annotator or more")
    with _without_collector():
        annotators = [read_annotations(path) for path in truths]
        found = read_predictions(predictions, SCORE_THRESHOLD, annotators[0])
    chosen = choose_pairs(annotators, found)
    counts = []
    for index, pair in enumerate(chosen):
        counts.append(choose_best(_count(pair, annotators, found)))
        if progress is not None and index % _PROGRESS_STEP == 0:
            progress("pairs", index / len(chosen))
    return score(Tally.of(counts))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector: it would look again and again through what is read, a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def exhaustive_pairs(annotators: Sequence[Annotations]) -> list[PairId]:
    """The pairs that every annotator calls exhaustive, in the order of the first file.

    Raises:
        EvaluationError: the annotators have other pairs, or no pair is left.
    """
    first = annotators[0]
    for other in annotators[1:]:
        differing = first.pairs.keys() ^ other.pairs.keys()
        if differing:
            raise EvaluationError(
                f"pairs that are not in both files: {len(differing)}, one is {min(differing, key=repr)!r}",
                where=f"{first.name} and {other.name}",
                hint="give annotators of the same set",
            )
    chosen = [pair for pair in first.pairs if all(one.pairs[pair].exhaustive for one in annotators)]
    if not chosen:
        where = ", ".join(one.name for one in annotators)
        raise EvaluationError("no pair is exhaustive for every annotator", where=where, hint="check the files")
    return chosen


def choose_pairs(annotators: Sequence[Annotations], found: Predictions) -> list[PairId]:
    """As `exhaustive_pairs`, once it is sure that the predictions belong to them.

    Raises:
        EvaluationError: the annotators have other pairs, no pair is left, or a prediction has an unknown pair or
            category, or a pair was not asked.
    """
    chosen = exhaustive_pairs(annotators)
    first = annotators[0]
    unknown = found.pairs - first.pairs.keys()
    if unknown:
        raise EvaluationError(
            f"predictions for unknown pairs: {len(unknown)}, one is {min(unknown, key=repr)!r}",
            where=found.name,
            hint=f"image_id is the id of a pair in {first.name}",
        )
    missing = [pair for pair in chosen if found.asked is not None and pair not in found.asked]
    if missing:
        raise EvaluationError(
            f"pairs whose picture or phrase is not in it: {len(missing)}, one is {missing[0]!r}",
            where=found.name,
            hint=f"segment every picture of {first.name} with each of its phrases",
        )
    for one in annotators:
        strange = found.categories - one.categories
        if one.categories and strange:
            raise EvaluationError(
                f"the category_id {min(strange)} is not in {one.name}",
                where=found.name,
                hint=f"leave it out, or give {min(one.categories)}",
            )
    return chosen


def _count(pair: PairId, annotators: Sequence[Annotations], found: Predictions) -> list[PairCounts]:
    """The counts of a pair against each annotator."""
    masks = [one.masks.get(pair, ()) for one in annotators]
    if pair not in found.masks:  # then nothing can match: only the number of true masks counts
        return [PairCounts(NO_HITS, 0, len(some)) for some in masks]
    predicted = _encode(found.masks[pair], annotators[0].pairs[pair], found.name)
    true = [
        code for one, some in zip(annotators, masks, strict=True) for code in _encode(some, one.pairs[pair], one.name)
    ]
    # All annotators in one call: pycocotools decodes its arguments anew each time.
    ious = overlap(predicted, true)
    ends = accumulate(map(len, masks))
    return [count_pair(ious[:, end - len(some) : end]) for some, end in zip(masks, ends, strict=True)]


def _encode(masks: Sequence[Segmentation], pair: Pair, name: str) -> list[Mapping[str, Any]]:
    where = f"{name}, pair {pair.entry.fields['id']!r}"
    return [encode(mask, pair.size, where) for mask in masks]


def _score_presence(both: int, predicted: int, neither: int, missed: int) -> PresenceScores:
    """Scores of presence from true positives, false positives, true negatives and false negatives."""
    epsilon = _PRESENCE_EPSILON
    precision, recall = both / (both + predicted + epsilon), both / (both + missed + epsilon)
    spread = float(both + predicted) * float(both + missed) * float(neither + predicted) * float(neither + missed)
    return PresenceScores(
        mcc=(both * neither - predicted * missed) / (spread**0.5 + epsilon),
        precision=precision,
        recall=recall,
        f1=float(harmonic(precision, recall, epsilon)),
        fpr=predicted / (predicted + neither + epsilon),
    )
