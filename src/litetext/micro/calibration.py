"""Calibration: after training, the scores are stretched so that SAM3's threshold of 0.5 is the best one.

A phrase is answered where presence times score passes 0.5. As they are trained, both may be a little shy or bold; three
numbers, found on pairs of the validation split and folded into the weights, fix that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit  # type: ignore[import-untyped]

from litetext.evaluation.cgf1 import Tally, score
from litetext.evaluation.matching import count_pair
from litetext.micro.evaluation import overlaps
from litetext.micro.phrases import Pair
from litetext.sam3.postprocess import resize_masks
from litetext.sam3.segmenter import Segmenter

if TYPE_CHECKING:
    from transformers import Sam3Model

PRESENCE_SCALES = (0.7, 1.0, 1.5, 2.0)
PRESENCE_SHIFTS = tuple(np.linspace(-1.5, 2.0, 15).tolist())
SCORE_SCALES = (0.7, 1.0, 1.5, 2.0, 3.0)
_THRESHOLD = 0.5

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Everything a model could answer for one pair.

    Attributes:
        presence: logit of the phrase being there at all.
        scores: [Q] logits of the queries, given that it is.
        ious: [Q, G] with the true masks.
    """

    presence: float
    scores: Array
    ious: Array


@dataclass(frozen=True)
class Calibration:
    """What is done to the logits: presence becomes scale x presence + shift, a score becomes scale x score.

    Attributes:
        presence_scale: positive.
        presence_shift: of the presence logit.
        score_scale: positive.
        cgf1: on the pairs that it was found on, 0 to 100.
        before: cgF1 without it on the same pairs.
    """

    presence_scale: float
    presence_shift: float
    score_scale: float
    cgf1: float
    before: float


def collect(model: "Sam3Model", pairs: Sequence[Pair]) -> list[Candidates]:
    """Run a model on pairs, those of a picture one after another, and keep what it says before any threshold."""
    segmenter = Segmenter(model)
    found: list[Candidates] = []
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        some = list(group)
        embedding = segmenter.embed(some[0].scene.pixels)
        outputs = segmenter.run_host(embedding, [pair.phrase.text for pair in some])
        for row, pair in enumerate(some):
            ious = overlaps(resize_masks(outputs.pred_masks[row], embedding.size, 0.5), pair)
            scores = outputs.pred_logits[row].double().numpy()
            found.append(Candidates(float(outputs.presence_logits[row]), scores, ious))
    return found


def calibrate(candidates: Sequence[Candidates]) -> Calibration:
    """The best of a grid; of equals the one that changes least comes first."""

    def measure(scale: float, shift: float, score_scale: float) -> float:
        counts = []
        for one in candidates:
            kept = expit(scale * one.presence + shift) * expit(score_scale * one.scores) > _THRESHOLD
            counts.append(count_pair(one.ious[kept]))
        return score(Tally.of(counts)).cgf1

    before = measure(1.0, 0.0, 1.0)
    grid = sorted(
        product(PRESENCE_SCALES, PRESENCE_SHIFTS, SCORE_SCALES),
        key=lambda one: abs(np.log(one[0])) + abs(one[1]) + abs(np.log(one[2])),
    )
    best = max(((*one, measure(*one)) for one in grid), key=lambda one: one[3])
    if best[3] <= before:
        return Calibration(1.0, 0.0, 1.0, before, before)
    return Calibration(*best, before=before)


def fold(model: "Sam3Model", calibration: Calibration) -> None:
    """Change the last layers of a model so that it says what the calibration makes of its logits."""
    presence: Any = model.detr_decoder.presence_head.layer3
    scoring: Any = model.dot_product_scoring.text_proj
    with torch.no_grad():
        presence.weight.mul_(calibration.presence_scale)
        presence.bias.mul_(calibration.presence_scale).add_(calibration.presence_shift)
        scoring.weight.mul_(calibration.score_scale)
        scoring.bias.mul_(calibration.score_scale)
