"""What is done to masks after a model: duplicates, overlaps, holes and sprinkles; on any device, without a download.

`transformers` asks ``kernels-community/cv-utils`` for most of it. Without that package, which works on CUDA alone, it
leaves out the suppression of duplicates, the filling of holes and the removal of sprinkles, and says so in a warning.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

_PLANE = np.zeros((3, 3, 3), dtype=np.int8)  # all eight neighbors in a mask, none in the masks before and after it
_PLANE[1] = 1


def suppress(overlaps: npt.NDArray[Any], scores: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.int64]:
    """Greedy suppression of duplicates: which of N detections stay, best first, those of equal scores in their order.

    Args:
        overlaps: float [N, N], IoU of each with each.
        scores: float [N].
        threshold: whatever overlaps more than this with a better one that stays is left out.
    """
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[overlaps[best, left] <= threshold]
    return np.array(kept, dtype=np.int64)


def components(masks: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Connected components of masks [N, H, W], diagonal neighbors included.

    Returns:
        Labels int32 [N, H, W], from 1 through all masks and 0 outside of them; and the area of the component at each
        of its cells, int32 [N, H, W], 0 outside.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    labels = np.zeros(masks.shape, dtype=np.int32)
    ndimage.label(masks, structure=_PLANE, output=labels)
    areas = np.bincount(labels.ravel(), minlength=1)
    areas[0] = 0
    return labels, areas.astype(np.int32)[labels]


def separate(masks: npt.NDArray[np.bool_], prompts: Sequence[str], certainty: Sequence[float]) -> None:
    """Give each pixel that several masks [N, H, W] of a phrase hold to the one that is most certain, in place."""
    for prompt in set(prompts):
        taken = np.zeros(masks.shape[1:], dtype=np.bool_)
        for place in sorted(range(len(prompts)), key=lambda place: -certainty[place]):
            if prompts[place] == prompt:
                masks[place] &= ~taken
                taken |= masks[place]


def generic_nms(ious: "Tensor", scores: "Tensor", iou_threshold: float, use_iou_matrix: bool = True) -> "Tensor":
    """`suppress` under the name and with the arguments that `transformers` uses; int64, where the scores are."""
    import torch

    if not use_iou_matrix:
        raise NotImplementedError("only a matrix of IoU is read")
    kept = suppress(ious.float().cpu().numpy(), scores.float().cpu().numpy(), iou_threshold)
    return torch.from_numpy(kept).to(scores.device)


def cc_2d(masks: "Tensor", get_counts: bool = True) -> "tuple[Tensor, Tensor] | Tensor":
    """`components` of masks [N, 1, H, W], under the name and with the arguments that `transformers` uses."""
    import torch

    labels, areas = (
        torch.from_numpy(part)[:, None].to(masks.device) for part in components(masks[:, 0].bool().cpu().numpy())
    )
    return (labels, areas) if get_counts else labels


def mask_iou(pred_masks: "Tensor", gt_masks: "Tensor") -> "Tensor":
    """IoU, float32 [N, M], of bool masks [N, H, W] and [M, H, W], under the name that `transformers` uses.

    As a product of matrices: all pairs of masks side by side take 27 GB for 200 detections of SAM3.
    """
    one, other = (masks.flatten(1).float() for masks in (pred_masks, gt_masks))
    both = one @ other.T  # exact: masks have less than 2**24 pixels
    return both / (one.sum(1)[:, None] + other.sum(1) - both).clamp(min=1)


@contextmanager
def own_kernels() -> Iterator[None]:
    """Let `transformers` use this module in place of the one that it would load from the hub."""
    import sys

    from transformers.models.sam3_video import modeling_sam3_video

    video: Any = modeling_sam3_video
    before = video.cv_utils_kernel, video.mask_iou
    video.cv_utils_kernel, video.mask_iou = sys.modules[__name__], mask_iou
    try:
        yield
    finally:
        video.cv_utils_kernel, video.mask_iou = before
