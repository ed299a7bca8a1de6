"""What training minimises: pure functions of a host's outputs and of the truth.

Sources: the set losses and their weights follow DETR (arXiv 2005.12872) and Mask2Former (arXiv 2112.01527), presence
and the scores given presence SAM 3 (arXiv 2511.16719), the contrastive loss CLIP (arXiv 2103.00020). Masks are also
compared at points at the resolution of the picture, every other one at the edge: a mask's logits are coarser than the
picture, and few of their cells decide whether it is tight (PointRend, arXiv 1912.08193).
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import maximum_filter, minimum_filter  # type: ignore[import-untyped]
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample, normalize, softplus

from litetext.micro.scenes import Instance

COST_SCORE, COST_L1, COST_GIOU, COST_DICE = 2.0, 5.0, 2.0, 5.0


def pool_instances(features: Tensor, owner: Tensor, cover: Tensor) -> Tensor:
    """The mean feature of the patches of each instance, weighted by the share of each that it covers: [I, D].

    Args:
        features: [B, D, h, w].
        owner: int64 [I], the picture of each instance, in rising order.
        cover: [I, h * w], not all zero.
    """
    weight = cover / cover.sum(1, keepdim=True)
    counts = owner.bincount(minlength=len(features))
    place = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    # A matrix product for each picture, padded to the most instances of one.
    padded = weight.new_zeros(len(features), int(counts.max()), weight.shape[1])
    padded[owner, place] = weight
    return torch.bmm(padded, features.flatten(2).transpose(1, 2))[owner, place]


def contrast(instances: Tensor, texts: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy of each true pair of an instance and a phrase against all false pairs of either.

    Pairs of which nobody can say whether they are true take no part.

    Args:
        instances: [I, D].
        texts: [K, D].
        truth: int8 [I, K], 1, 0 or -1 (nobody can say).
        scale: the inverse temperature of the cosine, positive.
    """
    logits = scale * normalize(instances, dim=1) @ normalize(texts, dim=1).T
    true = truth == 1
    wrong = logits.masked_fill(truth != 0, -torch.inf)
    losses = []
    for axis in (1, 0):
        against = wrong.logsumexp(axis, keepdim=True)
        each = softplus(against - logits)  # -log(e^s / (e^s + sum over the false ones))
        # Each instance (or phrase) counts once, however many phrases are true of it.
        counts = true.sum(axis)
        summed = each.masked_fill(~true, 0).sum(axis)
        losses.append((summed / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1))
    return (losses[0] + losses[1]) / 2


def to_corners(boxes: Tensor) -> Tensor:
    """Centre, width, height [..., 4] as left, top, right, bottom."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def generalised_iou(left: Tensor, right: Tensor) -> Tensor:
    """Generalised IoU (arXiv 1902.09630) of boxes as left, top, right, bottom [..., 4], broadcast: -1 to 1."""
    inner = (torch.minimum(left[..., 2:], right[..., 2:]) - torch.maximum(left[..., :2], right[..., :2])).clamp(min=0)
    outer = torch.maximum(left[..., 2:], right[..., 2:]) - torch.minimum(left[..., :2], right[..., :2])
    area = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (left, right)]
    overlap, hull = inner.prod(-1), outer.prod(-1)
    union = area[0] + area[1] - overlap
    return overlap / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def matching_costs(logits: Tensor, boxes: Tensor, masks: Tensor, target_boxes: Tensor, target_masks: Tensor) -> Tensor:
    """What it would cost to give a query to an instance: [N, Q, I], without a gradient.

    Args:
        logits: [N, Q].
        boxes: [N, Q, 4], centre, width, height.
        masks: logits [N, Q, h, w]; every other row and column is looked at.
        target_boxes: [I, 4], of the same kind.
        target_masks: [I, h, w], shares from 0 to 1.
    """
    with torch.no_grad():
        corners = to_corners(boxes)[:, :, None], to_corners(target_boxes)[None, None]
        cost = COST_L1 * (boxes[:, :, None] - target_boxes[None, None]).abs().sum(-1)
        cost = cost - COST_GIOU * generalised_iou(*corners) - COST_SCORE * logits.sigmoid()[:, :, None]
        shares, truth = masks[..., ::2, ::2].sigmoid().flatten(2), target_masks[:, ::2, ::2].flatten(1)
        whole = shares.square().sum(-1)[..., None] + truth.square().sum(-1)
        return cost - COST_DICE * (2 * shares @ truth.T + 1) / (whole + 1)


def match_queries(costs: Tensor, named: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cheapest one-to-one assignment of queries to the instances of each row (the Hungarian method).

    Args:
        costs: [N, Q, I].
        named: bool [N, I], the instances of each row, at most Q.

    Returns:
        Row, query and instance of each match: int64 [M].
    """
    rows: list[int] = []
    queries: list[int] = []
    instances: list[int] = []
    for row, (cost, mine) in enumerate(zip(costs.cpu().numpy(), named.cpu().numpy(), strict=True)):
        columns = np.flatnonzero(mine)
        found = linear_sum_assignment(cost[:, columns])
        rows += [row] * len(found[0])
        queries += found[0].tolist()
        instances += columns[found[1]].tolist()
    return tuple(torch.tensor(one, dtype=torch.int64, device=costs.device) for one in (rows, queries, instances))  # type: ignore[return-value]


def score_loss(logits: Tensor, rows: Tensor, queries: Tensor) -> Tensor:
    """Binary cross entropy of the scores [N, Q] of rows where the phrase is present: 1 where matched, else 0.

    Summed, and divided by the number of matches.
    """
    target = torch.zeros_like(logits)
    target[rows, queries] = 1
    return binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(1, len(rows))


def box_losses(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and 1 - generalised IoU of matched boxes [M, 4] (centre, width, height), averaged over M."""
    count = max(1, len(boxes))
    distance = (boxes - targets).abs().sum() / count
    return distance, (1 - generalised_iou(to_corners(boxes), to_corners(targets))).sum() / count


def mask_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross entropy and dice of masks [M, h, w], averaged over M; targets are shares from 0 to 1."""
    count = max(1, len(logits))
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2)).sum() / count
    return entropy, dice(logits, targets).sum() / count


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - the soft Dice coefficient of each of M masks [M, h, w]: [M].

    The squared denominator is least at the target itself even where that is a share between 0 and 1.
    """
    shares = logits.sigmoid()
    overlap = (shares * targets).sum((1, 2))
    whole = shares.square().sum((1, 2)) + targets.square().sum((1, 2))
    return 1 - (2 * overlap + 1) / (whole + 1)


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
