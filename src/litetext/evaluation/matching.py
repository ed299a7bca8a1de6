"""One-to-one matching of predicted and true masks of a pair, and what it counts at each IoU threshold.

Source: SAM 3 paper, the SA-Co benchmark (cgF1); the thresholds and the small terms are those of the official
evaluator.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

# Through linspace as COCO does: 0.9 comes out as 0.8999999999999999, which decides ties.
THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
THRESHOLDS.flags.writeable = False
EPSILON = 1e-4
NO_HITS: npt.NDArray[np.int64] = np.zeros(len(THRESHOLDS), dtype=np.int64)
NO_HITS.flags.writeable = False


class PairCounts(NamedTuple):
    """What was counted on one (image, phrase) pair against one annotator.

    Attributes:
        hits: int64 [T], matched predictions of at least each IoU threshold: true positives.
        predictions: the number of predictions P; P - hits are false positives.
        truths: the number of true masks G; G - hits are false negatives.
        misfits: predictions that lie over a true mask of another size; they match none of that size.
    """

    hits: npt.NDArray[np.int64]
    predictions: int
    truths: int
    misfits: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was there and nothing was predicted, which is a perfect answer."""
        return not self.predictions and not self.truths

    @property
    def mean_f1(self) -> float:
        """The local F1, averaged over the thresholds; 1 for a pair that is empty on both sides."""
        if not self.predictions or not self.truths:
            return float(self.is_empty)
        return _mean_f1(tuple(self.hits.tolist()), self.predictions, self.truths)


@lru_cache(maxsize=4096)  # most pairs have one of a few outcomes
def _mean_f1(hits: tuple[int, ...], predictions: int, truths: int) -> float:
    return float(f1_score(np.array(hits), predictions, truths).mean())


def match(ious: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The IoUs of the one-to-one matching with the greatest sum.

    Args:
        ious: [P, G], predictions by truths; -1 where the masks have different sizes, as pycocotools says it.

    Returns:
        [min(P, G)], in the order of the predictions.
    """
    rows, columns = linear_sum_assignment(ious, maximize=True)
    matched: npt.NDArray[np.float64] = ious[rows, columns]
    return matched


def count_pair(ious: npt.NDArray[np.float64]) -> PairCounts:
    """Match a pair and count its hits at every threshold.

    Args:
        ious: [P, G]; either may be 0.
    """
    predictions, truths = ious.shape
    if not predictions or not truths:
        return PairCounts(NO_HITS, predictions, truths)
    hits = (match(ious)[:, None] >= THRESHOLDS).sum(axis=0, dtype=np.int64)
    misfits = int((ious < 0).any(axis=1).sum()) if ious.min() < 0 else 0
    return PairCounts(hits, predictions, truths, misfits)


def choose_best(counts: Sequence[PairCounts]) -> PairCounts:
    """The counts of the annotator that is kindest to the predictions; the first of equals.

    Args:
        counts: one of each annotator, at least one.
    """
    return counts[0] if len(counts) == 1 else max(counts, key=lambda one: one.mean_f1)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike, epsilon: float = EPSILON) -> npt.NDArray[np.float64]:
    """Divide part by (whole + epsilon), elementwise: 0 where both are 0."""
    return np.asarray(part, dtype=np.float64) / (np.asarray(whole, dtype=np.float64) + epsilon)


def harmonic(precision: npt.ArrayLike, recall: npt.ArrayLike, epsilon: float = EPSILON) -> npt.NDArray[np.float64]:
    """F1 = 2PR / (P + R + epsilon), elementwise."""
    left, right = np.asarray(precision, dtype=np.float64), np.asarray(recall, dtype=np.float64)
    return 2 * left * right / (left + right + epsilon)


def f1_score(hits: npt.NDArray[np.int64], predictions: npt.ArrayLike, truths: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """F1 at each threshold, [..., T], of hits [..., T] among so many predictions and truths."""
    return harmonic(ratio(hits, predictions), ratio(hits, truths))
