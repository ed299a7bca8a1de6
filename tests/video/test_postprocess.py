"""Duplicates, overlaps and connected components: known answers, and what holds for any masks."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from litetext.video.postprocess import components, mask_iou, separate, suppress

MASKS = arrays(np.bool_, st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9)))


def iou(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    flat = masks.reshape(len(masks), masks[0].size if len(masks) else 0)
    shared = (flat[:, None] & flat[None]).sum(-1)
    return shared / np.maximum((flat[:, None] | flat[None]).sum(-1), 1)


def flood(mask: npt.NDArray[np.bool_], start: tuple[int, int]) -> set[tuple[int, int]]:
    """The cells that are reached from a cell, the slow way."""
    seen, left = {start}, [start]
    while left:
        row, column = left.pop()
        for other in [(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)]:
            inside = 0 <= other[0] < mask.shape[0] and 0 <= other[1] < mask.shape[1]
            if inside and other not in seen and mask[other]:
                seen.add(other)
                left.append(other)
    return seen


def test_the_better_of_two_stays_and_what_only_overlaps_the_worse_one_too() -> None:
    overlaps = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.6], [0.0, 0.6, 1.0]])
    assert suppress(overlaps, np.array([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
    assert suppress(overlaps, np.array([0.7, 0.8, 0.9]), 0.5).tolist() == [2, 0]
    assert suppress(overlaps, np.array([0.7, 0.9, 0.8]), 0.5).tolist() == [1]
    assert suppress(overlaps, np.array([0.7, 0.9, 0.8]), 0.6).tolist() == [1, 2, 0]  # not more than the threshold


def test_of_equal_scores_the_first_stays_and_of_none_none() -> None:
    assert suppress(np.ones((3, 3)), np.full(3, 0.5), 0.5).tolist() == [0]
    assert suppress(np.ones((0, 0)), np.zeros(0), 0.5).tolist() == []


@given(MASKS, st.floats(0, 1), st.randoms(use_true_random=False))
def test_what_stays_does_not_overlap_and_what_goes_overlaps_a_better_one(masks, threshold, random) -> None:
    overlaps = iou(masks)
    scores = np.array([random.choice([0.3, 0.6, 0.9]) for _ in masks])
    kept = suppress(overlaps, scores, threshold)
    assert all(overlaps[a, b] <= threshold for a in kept for b in kept if a != b)
    for gone in set(range(len(masks))) - set(kept.tolist()):
        assert any(overlaps[gone, k] > threshold and scores[k] >= scores[gone] for k in kept)


def test_diagonal_cells_are_connected_and_masks_are_not() -> None:
    mask = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]], [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]])
    labels, areas = components(mask)
    assert areas.tolist() == [
        [[2, 0, 0], [0, 2, 0], [0, 0, 0], [1, 0, 1]],
        [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]
    assert len(np.unique(labels)) == 5


@given(MASKS)
def test_components_are_what_a_flood_reaches(masks) -> None:
    labels, areas = components(masks)
    assert labels.shape == areas.shape == masks.shape
    assert labels.dtype == areas.dtype == np.int32
    assert ((labels > 0) == masks).all()
    for number, row, column in np.argwhere(masks):
        reached = flood(masks[number], (row, column))
        assert areas[number, row, column] == len(reached)
        assert set(map(tuple, np.argwhere(labels[number] == labels[number, row, column]))) == reached


def test_the_most_certain_thing_of_a_phrase_keeps_a_pixel_and_phrases_share() -> None:
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]], [[1, 1, 1]]], dtype=np.bool_)
    separate(masks, ["car", "car", "red"], [0.3, 0.8, 0.1])
    assert masks.tolist() == [[[True, False, False]], [[False, True, True]], [[True, True, True]]]


@pytest.mark.torch
def test_transformers_suppresses_fills_and_cleans_with_it_and_forgets_it_afterwards() -> None:
    import torch
    from transformers.models.sam3_video import modeling_sam3_video as video

    from litetext.video.postprocess import own_kernels

    before = video.cv_utils_kernel
    masks = torch.full((2, 7, 9), -5.0)  # odd sizes are padded before they come here
    masks[:, 1:6, 1:6] = 5.0
    masks[:, 3, 3] = -5.0  # a hole
    masks[:, 6, 8] = 5.0  # a sprinkle
    with own_kernels():
        keep = video.nms_masks(torch.tensor([0.8, 0.9]), masks, prob_threshold=0.5, iou_threshold=0.5)
        filled = video.fill_holes_in_mask_scores(masks[:, None], max_area=1)
        untouched = video.fill_holes_in_mask_scores(masks[:, None], max_area=0)
    assert keep.tolist() == [False, True]
    assert (filled > 0).sum(dim=(1, 2, 3)).tolist() == [25, 25]
    assert filled[0, 0, 3, 3] > 0 > filled[0, 0, 6, 8]
    assert (untouched[:, 0] == masks).all()
    assert video.cv_utils_kernel is before


def test_iou_of_masks_is_that_of_transformers() -> None:
    from transformers.models.sam3_video import modeling_sam3_video as stock

    masks = torch.from_numpy(np.random.default_rng(0).random((9, 31, 17)) < 0.3)
    masks[3] = False
    assert torch.equal(mask_iou(masks[:5], masks), stock.mask_iou(masks[:5], masks))
    assert mask_iou(masks[:0], masks).shape == (0, 9)
