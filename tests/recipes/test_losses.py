"""Hand-computed values of the losses, the matching against brute force, and points at the edges of masks."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.micro.losses import (
    as_tensors,
    box_losses,
    contrast,
    dice,
    generalised_iou,
    lay_points,
    mask_losses,
    match_queries,
    matching_costs,
    point_losses,
    pool_instances,
    read_masks,
    score_loss,
    to_corners,
)

from litetext.features.protocol import TextFeatures
from litetext.micro.concepts import concepts
from litetext.micro.scenes import Instance, generator, make_scene
from litetext.sam3.masks import resize_masks


def test_mean_of_the_valid_tokens() -> None:
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert TextFeatures(values, mask).pooled().tolist() == [[2.0], [7.0]]


def test_an_instance_is_the_mean_of_its_patches() -> None:
    features = torch.arange(8.0).reshape(2, 1, 2, 2)  # patches 0..3 of one picture, 4..7 of the other
    cover = torch.tensor([[1.0, 0, 0, 0], [0.5, 0, 0, 0.5], [0.2, 0.6, 0, 0]])
    pooled = pool_instances(features, torch.tensor([0, 0, 1]), cover)
    assert pooled[:, 0].tolist() == pytest.approx([0, 1.5, 4.75])


def test_contrast_by_hand() -> None:
    instances, texts = torch.eye(2), torch.eye(2)
    truth = torch.tensor([[1, 0], [0, 1]], dtype=torch.int8)
    # Cosine 1 with the right one and 0 with the wrong one.
    assert contrast(instances, texts, truth, torch.tensor(1.0)).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert contrast(instances, texts, truth, torch.tensor(3.0)).item() == pytest.approx(math.log(1 + math.exp(-3)))


def test_contrast_leaves_out_what_nobody_can_say() -> None:
    generator = torch.Generator().manual_seed(0)
    instances, texts = torch.randn(4, 8, generator=generator), torch.randn(6, 8, generator=generator)
    truth = torch.zeros(4, 6, dtype=torch.int8)
    truth[range(4), range(4)] = 1
    scale = torch.tensor(5.0)
    without = contrast(instances, texts[:5], truth[:, :5], scale)
    truth[:, 5] = -1
    assert contrast(instances, texts, truth, scale).item() == pytest.approx(without.item(), rel=1e-6)


def test_true_phrases_do_not_compete() -> None:
    instances = torch.tensor([[1.0, 0.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    two = contrast(instances, texts, torch.tensor([[1, 1, 0]], dtype=torch.int8), torch.tensor(1.0))
    one = contrast(instances, texts[[0, 2]], torch.tensor([[1, 0]], dtype=torch.int8), torch.tensor(1.0))
    assert two.item() == pytest.approx(one.item())


def test_contrast_without_a_true_pair_is_nothing() -> None:
    features = torch.ones(2, 3, requires_grad=True)
    loss = contrast(features, torch.ones(2, 3), torch.zeros(2, 2, dtype=torch.int8), torch.tensor(1.0))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert bool(features.grad.isfinite().all())


def test_generalised_iou_by_hand() -> None:
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 2, 2], [2, 0, 3, 1]], dtype=torch.float32)
    first = boxes[:1]
    # The same; a quarter of it, hull as large as the union; apart, hull 3, union 2.
    assert generalised_iou(first, boxes).tolist() == pytest.approx([1, 0.25, -1 / 3], abs=1e-6)
    assert to_corners(torch.tensor([0.5, 0.5, 0.2, 0.4])).tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])


@given(st.integers(0, 2**31), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_the_matching_is_the_cheapest(seed: int, counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    costs = torch.randn(len(counts), 4, sum(counts) + 1, generator=generator)
    named = torch.zeros(len(counts), sum(counts) + 1, dtype=torch.bool)
    for row, count in enumerate(counts):
        named[row, torch.randperm(sum(counts) + 1, generator=generator)[:count]] = True
    rows, queries, instances = match_queries(costs, named)
    assert len(rows) == sum(counts)
    for row, count in enumerate(counts):
        mine = named[row].nonzero()[:, 0]
        found = costs[row, queries[rows == row], instances[rows == row]].sum().item()
        tried = itertools.permutations(range(4), count)
        assert found == pytest.approx(min(costs[row, list(one), mine].sum().item() for one in tried), abs=1e-4)
        assert sorted(instances[rows == row].tolist()) == mine.tolist()


def test_the_costs_by_hand() -> None:
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.5]]])
    masks = torch.full((1, 2, 4, 4), -40.0)
    masks[0, 0, :, :2] = 40.0
    masks[0, 1, :, 2:] = 40.0
    instance = torch.tensor([[0.25, 0.25, 0.5, 0.5]]), (masks[0, :1] > 0).float()
    costs = matching_costs(torch.zeros(1, 2), boxes, masks, *instance)
    # The right one: no distance, generalised IoU 1, dice 1. The other: distance 0.5, generalised IoU 0, no overlap of
    # two masks that cover two of the four cells that are looked at.
    assert costs[0, :, 0].tolist() == pytest.approx([0 - 2 - 1 - 5, 5 * 0.5 - 0 - 1 - 5 * 1 / 5], abs=1e-4)
    assert not costs.requires_grad


def test_scores_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    rows, queries = torch.tensor([0]), torch.tensor([1])
    assert score_loss(logits, rows, queries).item() == pytest.approx(4 * math.log(2))
    assert score_loss(torch.tensor([[-20.0, 20.0]]), rows, queries).item() == pytest.approx(0, abs=1e-6)


def test_boxes_by_hand() -> None:
    distance, apart = box_losses(torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([[0.6, 0.5, 0.2, 0.2]]))
    assert distance.item() == pytest.approx(0.1)
    assert apart.item() == pytest.approx(1 - 1 / 3, abs=1e-4)  # half of each is shared, the hull is the union
    nothing = box_losses(torch.zeros(0, 4), torch.zeros(0, 4))
    assert [one.item() for one in nothing] == [0, 0]


def test_masks_by_hand() -> None:
    target = torch.tensor([[[1.0, 0.0]]])
    entropy, overlap = mask_losses(torch.tensor([[[0.0, 0.0]]]), target)
    assert entropy.item() == pytest.approx(math.log(2))
    assert overlap.item() == pytest.approx(1 - (2 * 0.5 + 1) / (0.5 + 1 + 1))
    entropy, overlap = mask_losses(torch.tensor([[[30.0, -30.0]]]), target)
    assert (entropy.item(), overlap.item()) == pytest.approx((0, 0), abs=1e-6)


@given(st.floats(0.05, 0.95))
def test_dice_is_least_at_the_target_itself(share: float) -> None:
    target = torch.full((1, 4, 4), share)
    at, beside = target.logit(), [target.logit() + step for step in (-0.3, 0.3)]
    assert dice(at, target).item() == pytest.approx(0, abs=1e-6)
    assert all(dice(one, target).item() > 0 for one in beside)


LARGE = 20.0  # a logit that is as good as sure


def instance(mask: np.ndarray) -> Instance:
    rows, columns = np.nonzero(mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Instance(concepts()[0], None, mask, box, 0.5)


@given(seed=st.integers(0, 30), count=st.integers(2, 40))
@settings(max_examples=20, deadline=None)
def test_points_are_in_the_picture_and_every_other_one_at_the_edge(seed: int, count: int) -> None:
    for one in make_scene(seed).instances:
        points = lay_points(one, count, generator(seed, "train"))
        assert points.shape == (count, 2)
        assert (points >= 0).all()
        assert (points < one.mask.shape).all()
        padded = np.pad(one.mask, 2, mode="edge")
        for row, column in points[1::2]:
            around = padded[row : row + 5, column : column + 5]
            assert around.any()
            assert not around.all()


def test_points_of_a_mask_without_an_edge() -> None:
    points = lay_points(instance(np.ones((12, 9), dtype=np.bool_)), 50, np.random.default_rng(0))
    assert (points < (12, 9)).all()


def test_points_of_anywhere_lie_about_the_box() -> None:
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[40:60, 30:40] = True
    some = lay_points(instance(mask), 4000, np.random.default_rng(0))[::2]
    # 20 % of 20 and of 10, and five pixels, on each side.
    assert (some.min(0).tolist(), some.max(0).tolist()) == ([31, 23], [68, 46])


def test_the_truth_of_points() -> None:
    scene = make_scene(3)
    points, inside = as_tensors(list(scene.instances), 64, np.random.default_rng(0))
    assert points.shape == (len(scene.instances), 64, 2)
    for one, at, true in zip(scene.instances, points.numpy(), inside.numpy(), strict=True):
        height, width = one.mask.shape
        assert one.mask[(at[:, 1] * height).astype(int), (at[:, 0] * width).astype(int)].tolist() == true.tolist()


def test_reading_is_what_the_host_does_with_its_masks() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 6, 5)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(30), indexing="ij")
    points = torch.stack([(columns + 0.5) / 30, (rows + 0.5) / 24], dim=-1).reshape(1, -1, 2).expand(2, -1, -1)
    read = read_masks(logits, points).reshape(2, 24, 30)
    for threshold in (0.3, 0.5, 0.8):
        assert np.array_equal((read > threshold).numpy(), resize_masks(logits.numpy(), (24, 30), threshold))


def test_the_losses_by_hand() -> None:
    logits = torch.tensor([[[LARGE, -LARGE]], [[0.0, 0.0]]])
    left, right = [0.25, 0.5], [0.75, 0.5]  # centres of the two cells
    points = torch.tensor([[left, left, right, right]] * 2)
    entropy, dice = point_losses(logits, points, torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2))
    assert entropy.item() == pytest.approx(np.log(2) / 2, abs=1e-5)  # nothing, and a half everywhere
    # Of anywhere are one point inside and one outside: 1 - 3 / 3, and 1 - (2 x 0.5 + 1) / (0.5 + 0.5 + 1 + 1).
    assert dice.item() == pytest.approx((0 + 1 / 3) / 2, abs=1e-5)


def test_wrong_masks_cost_more_and_no_masks_nothing() -> None:
    points, truth = torch.full((1, 4, 2), 0.5), torch.ones(1, 4)
    costs = [sum(point_losses(torch.full((1, 2, 2), logit), points, truth)).item() for logit in (9.0, 1.0, -1.0, -99.0)]
    assert costs == sorted(costs)
    assert np.isfinite(costs).all()
    none = point_losses(torch.zeros(0, 2, 2), torch.zeros(0, 4, 2), torch.zeros(0, 4))
    assert [loss.item() for loss in none] == [0, 0]


def test_a_gradient_reaches_the_mask() -> None:
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    sum(point_losses(logits, torch.full((1, 2, 2), 0.3), torch.ones(1, 2))).backward()
    assert logits.grad is not None
    assert bool((logits.grad[0, :2, :2] < 0).all())
    assert not logits.grad[0, 2:].any()
