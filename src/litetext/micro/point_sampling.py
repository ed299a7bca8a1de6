"""Points at which masks are compared with the truth, at the resolution of the picture: every other one at the edge.

A mask's logits are coarser than the picture, and most of their cells are background. What decides whether a mask is
tight are the few pixels at its edge (PointRend, arXiv 1912.08193; Mask2Former, arXiv 2112.01527).
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import maximum_filter, minimum_filter  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import grid_sample

from litetext.micro.scenes import Instance

_BAND = 5  # pixels across the edge, the edge in their middle
_AROUND = 0.2  # of a box, that is looked at on each side of it
_LEAST = 1e-6  # of a probability


def lay_points(instance: Instance, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Pixels of a picture as rows and columns, int64 [count, 2].

    Every other one is anywhere in the instance's box, widened; those between are at the edge of its mask.

    Args:
        instance: of a scene.
        count: how many, 2 or more.
        rng: the source of randomness.
    """
    left, top, right, bottom = instance.box
    margin = np.array([bottom - top, right - left]) * _AROUND + _BAND
    first = np.maximum(np.floor(np.array([top, left]) - margin), 0).astype(np.int64)
    last = np.minimum(np.ceil(np.array([bottom, right]) + margin).astype(np.int64), instance.mask.shape)
    near = instance.mask[first[0] : last[0], first[1] : last[1]]
    edge = np.argwhere(maximum_filter(near, _BAND) != minimum_filter(near, _BAND))
    points = rng.integers(near.shape, size=(count, 2))
    if len(edge):  # not of an instance that fills all that is looked at
        points[1::2] = edge[rng.integers(len(edge), size=count // 2)]
    return first + points


def read_masks(logits: Tensor, points: Tensor) -> Tensor:
    """Probabilities at points of the picture, interpolated as SAM3 resizes its masks: [M, P].

    Args:
        logits: [M, h, w].
        points: [M, P, 2], x and y as shares of the picture.
    """
    return grid_sample(logits.sigmoid()[:, None], 2 * points[:, None] - 1, padding_mode="border", align_corners=False)[
        :, 0, 0
    ]


def point_losses(logits: Tensor, points: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross entropy at all points, and 1 - the Dice coefficient at those of anywhere, averaged over M.

    Args:
        logits: [M, h, w].
        points: [M, P, 2] as `lay_points` lays them, x and y as shares of the picture.
        truth: [M, P], 0 or 1.
    """
    count = max(1, len(logits))
    read = read_masks(logits, points)
    right = torch.where(truth > 0, read, 1 - read)
    entropy = -right.clamp(min=_LEAST).log().mean(1).sum() / count
    some, true = read[:, ::2], truth[:, ::2]
    overlap = (2 * (some * true).sum(1) + 1) / (some.sum(1) + true.sum(1) + 1)
    return entropy, (1 - overlap).sum() / count


def as_tensors(instances: list[Instance], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Points of I instances and whether the mask holds them: float32 [I, count, 2], x and y as shares; [I, count]."""
    pixels = [lay_points(one, count, rng) for one in instances]
    truth = [one.mask[at[:, 0], at[:, 1]] for one, at in zip(instances, pixels, strict=True)]
    sides = np.array(instances[0].mask.shape)
    shares = (np.stack(pixels) + 0.5) / sides
    return torch.from_numpy(shares[..., ::-1].astype(np.float32)), torch.from_numpy(np.stack(truth)).float()
