"""Masks keep their promises, and go to COCO and supervision and back without a change."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from litetext.errors import ArrayError, MissingExtraError
from litetext.sam3.masks import Masks, resize_masks


def some_masks(masks: npt.NDArray[np.bool_], prompt: str = "white dog") -> Masks:
    count = len(masks)
    boxes = np.tile(np.array([1.0, 2.0, 4.0, 8.0], np.float32), (count, 1))
    return Masks(masks, boxes, np.linspace(0.9, 0.6, count, dtype=np.float32), prompt)


# pycocotools 2.0.11 decodes with NumPy 2 only under a warning.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_run_lengths_come_back(masks: npt.NDArray[np.bool_]) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    found = some_masks(masks)
    annotations = json.loads(json.dumps(found.to_coco(image_id=3, category_id=5)))
    assert len(annotations) == len(found)
    for annotation, mask in zip(annotations, masks, strict=True):
        np.testing.assert_array_equal(rle.decode(annotation["segmentation"]).astype(bool), mask)
        assert annotation["area"] == rle.area(annotation["segmentation"]) == mask.sum()


def test_annotations_are_coco() -> None:
    pytest.importorskip("pycocotools")
    (annotation,) = some_masks(np.ones((1, 8, 5), np.bool_)).to_coco(image_id=3, category_id=5)
    assert annotation.pop("score") == pytest.approx(0.9)
    assert annotation == {
        "image_id": 3,
        "category_id": 5,
        "segmentation": {"size": [8, 5], "counts": "0X1"},
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "area": 40,
        "iscrowd": 0,
    }


def test_no_instances() -> None:
    pytest.importorskip("pycocotools")
    none = some_masks(np.zeros((0, 8, 5), np.bool_))
    assert (len(none), none.size, none.to_coco(1, 1)) == (0, (8, 5), [])
    assert none.draw(np.zeros((8, 5), np.uint8)).size == (5, 8)


@pytest.mark.filterwarnings("ignore:OpenCV:UserWarning")  # supervision says so where it has none
def test_supervision_has_the_same_numbers() -> None:
    supervision: Any = pytest.importorskip("supervision")
    found = some_masks(np.random.default_rng(0).random((3, 8, 5)) > 0.5)
    detections = found.to_supervision(class_id=7)
    assert isinstance(detections, supervision.Detections)
    np.testing.assert_array_equal(detections.mask, found.masks)
    np.testing.assert_array_equal(detections.xyxy, found.boxes)
    np.testing.assert_array_equal(detections.confidence, found.scores)
    assert detections.class_id.tolist() == [7, 7, 7]
    assert detections["class_name"].tolist() == ["white dog"] * 3
    assert len(some_masks(np.zeros((0, 8, 5), np.bool_)).to_supervision()) == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match="needs the extra 'supervision'"):
        some_masks(np.ones((1, 8, 5), np.bool_)).to_supervision()


@pytest.mark.parametrize(
    ("masks", "boxes", "scores"),
    [
        (np.ones((8, 5), np.bool_), np.ones((1, 4)), np.ones(1)),
        (np.ones((2, 8, 5), np.bool_), np.ones((1, 4)), np.ones(1)),
        (np.ones((1, 8, 5), np.bool_), np.ones((1, 3)), np.ones(1)),
        (np.ones((1, 8, 5), np.uint8), np.ones((1, 4)), np.ones(1)),
        (np.ones((1, 8, 5), np.bool_), np.ones((1, 4)), np.full(1, np.nan)),
        (np.ones((1, 8, 5), np.bool_), np.full((1, 4), np.inf), np.ones(1)),
    ],
)
def test_what_does_not_fit_together_is_refused(masks: Any, boxes: Any, scores: Any) -> None:
    with pytest.raises(ArrayError, match=r"not masks|not bool|not finite"):
        Masks(masks, boxes, scores, "x")


SIDES = st.integers(1, 30)


@settings(max_examples=60)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(0, 2**32))
def test_resized_masks_are_those_of_pytorch(
    old: tuple[int, int], new: tuple[int, int], threshold: float, seed: int
) -> None:
    torch = pytest.importorskip("torch")
    # Of whole numbers, so that neighbors are equal and some probabilities are 0.5 exactly.
    logits = np.random.default_rng(seed).integers(-4, 3, (3, *old)).astype(np.float32)
    assert_resized(torch, logits, new, threshold)


def test_a_cell_that_a_smaller_size_skips_is_in_no_mask() -> None:
    logits = np.array([[[-9, -9, 9]]], np.float32)  # of three cells a mask of one pixel reads the middle one
    assert not resize_masks(logits, (1, 1), 0.5).any()
    assert not resize_masks(logits.transpose(0, 2, 1), (1, 1), 0.5).any()


def test_resized_masks_of_a_photograph_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    coarse = torch.randn(3, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    logits = 40 * torch.nn.functional.interpolate(coarse, (288, 288), mode="bicubic")[:, 0].numpy() - 30
    assert_resized(torch, logits, (1333, 999), 0.5)


def assert_resized(torch: Any, logits: npt.NDArray[np.float32], size: tuple[int, int], threshold: float) -> None:
    """As PyTorch resizes them; where its probability lies on the threshold, rounding may decide either way."""
    found = resize_masks(logits, size, threshold)
    probabilities = torch.from_numpy(logits).sigmoid()[None]
    wanted = torch.nn.functional.interpolate(probabilities, size, mode="bilinear", align_corners=False)[0].numpy()
    assert found.shape == wanted.shape
    assert (np.abs(wanted[found != (wanted > threshold)] - threshold) < 1e-6).all()
