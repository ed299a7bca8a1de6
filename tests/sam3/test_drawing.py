"""Drawn masks: tinted inside, untouched outside, labelled, in colours that can be told apart."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from litetext.errors import ImageError
from litetext.sam3.drawing import draw_instances, draw_masks, palette
from litetext.sam3.masks import Masks, draw_all


def square(left: int, top: int, side: int, shape: tuple[int, int] = (200, 300), prompt: str = "box") -> Masks:
    mask = np.zeros((1, *shape), np.bool_)
    mask[0, top : top + side, left : left + side] = True
    box = np.array([[left, top, left + side, top + side]], np.float32)
    return Masks(mask, box, np.array([0.87], np.float32), prompt)


def test_only_the_mask_and_its_label_change() -> None:
    grey = Image.new("RGB", (300, 200), (90, 90, 90))
    found = square(40, 60, 80)
    drawn = np.asarray(found.draw(grey))
    changed = (drawn != 90).any(axis=2)
    assert changed[found.masks[0]].all()
    outside = changed & ~found.masks[0]
    rows, columns = np.nonzero(outside)
    assert rows.size
    assert rows.min() >= 40
    assert rows.max() < 62
    assert (columns.min(), changed[:, 160:].any()) == (40, False)
    assert np.asarray(grey).tolist() == np.full((200, 300, 3), 90).tolist()


def test_masks_alone_have_no_label() -> None:
    grey = Image.new("RGB", (300, 200), (90, 90, 90))
    masks = np.concatenate([square(40, 60, 80).masks, square(150, 20, 30).masks, square(0, 0, 0).masks])
    drawn = np.asarray(draw_masks(grey, masks))
    assert ((drawn != 90).any(axis=2) == masks.any(axis=0)).all()
    assert drawn[100, 80].tolist() != drawn[30, 160].tolist()
    assert np.asarray(draw_masks(grey, masks[:0])).tolist() == np.asarray(grey).tolist()


def test_colours_can_be_told_apart() -> None:
    for one, other in combinations(palette(), 2):
        assert np.abs(np.subtract(one, other)).sum() > 40
    for one, other in zip(palette(), palette()[1:], strict=False):
        assert np.abs(np.subtract(one, other)).sum() > 200


def test_labels_do_not_cover_each_other() -> None:
    results = [square(40, 60, 80, prompt=f"thing {index}") for index in range(3)]
    drawn = np.asarray(draw_instances(Image.new("RGB", (300, 200)), results))
    full = [np.array(colour) for colour in palette()[:3]]
    sizes = [(drawn == colour).all(axis=2).sum() for colour in full]
    assert min(sizes) > 300


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_images(side: int) -> None:
    found = square(0, 0, side, (side, side), prompt="a long phrase that does not fit")
    assert found.draw(np.zeros((side, side, 3), np.uint8)).size == (side, side)


def test_an_empty_mask_and_any_script() -> None:
    nothing = Masks(
        np.zeros((1, 9, 9), np.bool_), np.zeros((1, 4), np.float32), np.ones(1, np.float32), "белый пёс 犬 🐕"
    )
    assert nothing.draw(Image.new("RGB", (9, 9))).size == (9, 9)
    square(0, 0, 100, prompt=nothing.prompt).draw(Image.new("RGB", (300, 200)))


def test_another_image_is_refused() -> None:
    with pytest.raises(ImageError, match="masks of 300 x 200 pixels on an image of 9 x 9"):
        square(0, 0, 3).draw(Image.new("RGB", (9, 9)))


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_real_photographs_with_their_own_masks(coco: dict[str, Any], data_folder: Path) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    names = {category["id"]: category["name"] for category in coco["categories"]}
    for image in coco["images"][:4]:
        results = []
        for one in coco["annotations"]:
            if one["image_id"] == image["id"] and not one["iscrowd"]:
                code = rle.merge(rle.frPyObjects(one["segmentation"], image["height"], image["width"]))
                left, top, width, height = one["bbox"]
                box = np.array([[left, top, left + width, top + height]], np.float32)
                mask = rle.decode(code).astype(bool)[None]
                results.append(Masks(mask, box, np.ones(1, np.float32), names[one["category_id"]]))
        file = data_folder / "coco33" / "images" / image["file_name"]
        drawn = draw_all(file, results)
        with Image.open(file) as original:
            assert drawn.size == original.size
