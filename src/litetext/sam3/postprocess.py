"""From a host's raw output to masks at the image's size, as SAM3 does it."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import interpolate

from litetext.sam3.masks import Masks

MOST_FLOATS = 2**26  # 256 MiB of float32: what resized masks may take at once before they become bool


def detection_scores(outputs: Any) -> Tensor:
    """Class times presence, float32 [B, Q]: how sure the model is of each query, given that the phrase is there at all.

    Args:
        outputs: of a host: ``pred_logits`` [B, Q] and ``presence_logits`` [B, 1].
    """
    scores: Tensor = outputs.pred_logits.float().sigmoid() * outputs.presence_logits.float().sigmoid()
    return scores


def to_masks(
    outputs: Any, prompts: list[str], size: tuple[int, int], threshold: float, mask_threshold: float
) -> list[Masks]:
    """What a host found for B phrases on one image, best scores first.

    Args:
        outputs: of a host: ``pred_logits`` [B, Q], ``presence_logits`` [B, 1], ``pred_boxes`` [B, Q, 4] as left, top,
            right, bottom from 0 to 1, ``pred_masks`` logits [B, Q, h, w].
        prompts: B of them.
        size: height and width of the image in pixels.
        threshold: scores must be above it.
        mask_threshold: a pixel is in where the resized probability is above it.
    """
    height, width = size
    results = []
    scores = detection_scores(outputs)
    for row, prompt in enumerate(prompts):
        kept = scores[row].argsort(descending=True, stable=True)[: int((scores[row] > threshold).sum())]
        scale = scores.new_tensor([width, height, width, height])
        results.append(
            Masks(
                masks=resize_masks(outputs.pred_masks[row, kept], size, mask_threshold),
                boxes=(outputs.pred_boxes[row, kept].float() * scale).cpu().numpy(),
                scores=scores[row, kept].cpu().numpy(),
                prompt=prompt,
            )
        )
    return results


def resize_masks(
    logits: Tensor, size: tuple[int, int], threshold: float, most_floats: int = MOST_FLOATS
) -> npt.NDArray[np.bool_]:
    """Where the probability, resized bilinearly, is above a threshold: bool [N, H, W].

    Args:
        logits: [N, h, w].
        size: H and W.
        threshold: of the probability.
        most_floats: resized numbers to hold at once; one mask at least.
    """
    masks = np.zeros((len(logits), *size), dtype=np.bool_)
    step = max(1, most_floats // (size[0] * size[1]))
    for start in range(0, len(logits), step):
        probabilities = logits[None, start : start + step].float().sigmoid()
        resized = interpolate(probabilities, size=size, mode="bilinear", align_corners=False)[0]
        masks[start : start + step] = (resized > threshold).cpu().numpy()
    return masks
