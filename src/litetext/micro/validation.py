"""How good a model in training is: on words alone, and on whole pairs."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from litetext.micro.batches import Bank, assemble, spoken_nouns
from litetext.micro.evaluation import evaluate_pairs
from litetext.micro.forward import encode_text, normalize_pixels
from litetext.micro.model import SIZE
from litetext.micro.objectives import pool_instances
from litetext.micro.phrases import Pair, make_pairs
from litetext.micro.scenes import Scene, SceneOptions
from litetext.sam3.segmenter import Segmenter

if TYPE_CHECKING:
    from transformers import Sam3Model

VALIDATION_SEED, CALIBRATION_PAIRS = 1, 900


@cache
def validation_pairs(count: int) -> tuple[Pair, ...]:
    """The first pairs of the validation split, always the same."""
    return tuple(make_pairs(VALIDATION_SEED, count, SceneOptions(size=SIZE, split="validation")))


def calibration_pairs() -> tuple[Pair, ...]:
    """Pairs of the validation split that the curve does not look at."""
    return tuple(make_pairs(VALIDATION_SEED + 1, CALIBRATION_PAIRS, SceneOptions(size=SIZE, split="validation")))


def validate(model: "Sam3Model", pairs: Sequence[Pair], *, masks: bool) -> dict[str, float]:
    """Scores of a model, which is left in training mode.

    Args:
        model: what is trained.
        pairs: of the validation split.
        masks: segment too; before the set losses begin there is nothing to be seen.

    Returns:
        ``nouns_right`` (0 to 1), and with masks ``cgf1``, ``pmf1`` (0 to 100) and ``il_mcc`` (-1 to 1).
    """
    model.eval()  # type: ignore[no-untyped-call]
    result = {"nouns_right": nouns_right(model, list({pair.picture: pair.scene for pair in pairs}.values()))}
    if masks:
        result |= evaluate_pairs(Segmenter(model), pairs).overall.headline
    model.train()
    return result


def nouns_right(model: "Sam3Model", scenes: Sequence[Scene]) -> float:
    """Share of instances of which the noun of the highest cosine, of all nouns that training says, is true."""
    count = len(spoken_nouns())
    batch = assemble(scenes, [], Bank(spoken_nouns(), np.arange(count), np.full(count, -1)))
    with torch.inference_mode():
        features = model.vision_encoder(normalize_pixels(batch.pixels)).fpn_hidden_states[-2]
        texts = encode_text(model, batch.bank_ids, batch.bank_mask).pooled()
        instances = pool_instances(features, batch.owner, batch.cover)
        best = (instances @ normalize(texts, dim=1).T).argmax(1)
    return float((batch.truth[torch.arange(len(best)), best] == 1).float().mean())
