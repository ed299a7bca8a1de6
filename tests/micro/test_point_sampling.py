"""Points at the edges of masks: where they lie, what is read there, and the losses by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from litetext.micro.concepts import concepts  # noqa: E402
from litetext.micro.point_sampling import as_tensors, lay_points, point_losses, read_masks  # noqa: E402
from litetext.micro.scenes import Instance, generator, make_scene  # noqa: E402
from litetext.sam3.postprocess import resize_masks  # noqa: E402

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
        assert np.array_equal((read > threshold).numpy(), resize_masks(logits, (24, 30), threshold))


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
