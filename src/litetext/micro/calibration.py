"""Calibration: after training, the scores are stretched so that SAM3's threshold of 0.5 is the best one.

A phrase is answered where presence times score passes 0.5. As they are trained, both may be a little shy or bold; three
numbers, found on pairs of the validation split and folded into the weights, mend that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from litetext.evaluate.cgf1 import Tally, score
from litetext.evaluate.matching import count_pair
from litetext.micro.batches import tokens
from litetext.micro.evaluation import overlaps
from litetext.micro.forward import normalise
from litetext.micro.phrases import Pair
from litetext.sam3.masks import Masks
from litetext.sam3.postprocess import resize_masks
from litetext.tokens.vocabulary import END_ID

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
    found: list[Candidates] = []
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        some = list(group)
        size = some[0].scene.pixels.shape[:2]
        pixels = normalise(torch.from_numpy(some[0].scene.pixels).permute(2, 0, 1)[None])
        ids, mask = tokens([pair.phrase.text for pair in some])
        with torch.inference_mode():
            outputs = model(
                pixel_values=pixels.expand(len(some), -1, -1, -1),
                input_ids=ids.masked_fill(~mask, END_ID),
                attention_mask=mask.long(),
            )
        for row, pair in enumerate(some):
            masks = resize_masks(outputs.pred_masks[row], size, 0.5)
            count = len(masks)
            blank = np.zeros((count, 4), dtype=np.float32), np.zeros(count, dtype=np.float32)
            ious = overlaps(Masks(masks, *blank, pair.phrase.text), pair)
            found.append(
                Candidates(float(outputs.presence_logits[row]), outputs.pred_logits[row].double().numpy(), ious)
            )
    return found


def calibrate(candidates: Sequence[Candidates]) -> Calibration:
    """The best of a grid; of equals the one that changes least comes first."""

    def measure(scale: float, shift: float, score_scale: float) -> float:
        counts = []
        for one in candidates:
            kept = _sigmoid(scale * one.presence + shift) * _sigmoid(score_scale * one.scores) > _THRESHOLD
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
    presence: Any = model.detr_decoder.presence_head.layer3 or model.detr_decoder.presence_head.layer2
    scoring: Any = model.dot_product_scoring.text_proj
    with torch.no_grad():
        presence.weight.mul_(calibration.presence_scale)
        presence.bias.mul_(calibration.presence_scale).add_(calibration.presence_shift)
        scoring.weight.mul_(calibration.score_scale)
        scoring.bias.mul_(calibration.score_scale)


def _sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))
