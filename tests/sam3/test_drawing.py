"""Drawn masks: tinted inside, untouched outside, labelled, in colours that can be told apart."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from litetext.errors import ImageError
from litetext.sam3 import drawing
from litetext.sam3.drawing import _place, draw_instances, draw_masks, ink_on, palette
from litetext.sam3.masks import ImageMasks, Masks


def square(left: int, top: int, side: int, shape: tuple[int, int] = (200, 300), prompt: str = "box") -> Masks:
    mask = np.zeros((1, *shape), np.bool_)
    mask[0, top : top + side, left : left + side] = True
    box = np.array([[left, top, left + side, top + side]], np.float32)
    return Masks(mask, box, np.array([0.87], np.float32), prompt)


def test_only_the_mask_and_its_label_change() -> None:
    grey = Image.new("RGB", (500, 200), (90, 90, 90))
    found = square(40, 60, 80, (200, 500))
    drawn = np.asarray(found.draw(grey))
    changed = (drawn != 90).any(axis=2)
    assert changed[found.masks[0]].all()
    outside = changed & ~found.masks[0]
    rows, columns = np.nonzero(outside)
    assert rows.size
    assert rows.min() >= 40
    assert rows.max() < 62
    assert (columns.min(), changed[:, 160:].any()) == (40, False)
    assert np.asarray(grey).tolist() == np.full((200, 500, 3), 90).tolist()


def test_a_small_picture_stays_free_of_text() -> None:
    """What was found stands below it, a row for each phrase that found anything."""
    grey = Image.new("RGB", (160, 120), (90, 90, 90))
    shape = (120, 160)
    results = [square(5, 5, 0, shape), square(40, 60, 20, shape), square(90, 10, 30, shape), square(5, 90, 9, shape)]
    results[0] = Masks(np.zeros((0, *shape), np.bool_), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), "none")
    drawn = np.asarray(ImageMasks(results).draw(grey))
    masks = np.concatenate([one.masks for one in results]).any(axis=0)
    assert ((drawn[:120] != 90).any(axis=2) == masks).all()
    strip = drawn[120:]
    assert strip.shape[0] > 0
    assert strip.shape[0] % 3 == 0
    rows = np.split(strip, 3)
    for number, row in enumerate(rows, 1):
        own = [(row == np.array(color)).all(axis=2).any() for color in palette()[:4]]
        assert own == [number == place for place in range(4)]
        dark = (row < 128).all(axis=2).any(axis=0)
        assert dark[:80].any()  # the phrase
        assert dark[120:].any()  # the count and the best score
    assert ImageMasks(results[:1]).draw(grey).size == grey.size


@pytest.mark.parametrize("size", [(160, 120), (640, 480)])
def test_a_color_for_each_phrase(size: tuple[int, int]) -> None:
    """That of its place among the phrases, whatever the others found; the same picture each time."""
    shape = size[::-1]
    first, second = square(20, 20, 30, shape, "dog"), square(70, 20, 30, shape, "cat")
    parts = [np.concatenate([getattr(one, name) for one in (first, second)]) for name in ("masks", "boxes", "scores")]
    both = Masks(*parts, "dog")
    none = Masks(np.zeros((0, *shape), np.bool_), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), "x")
    grey = Image.new("RGB", size, (90, 90, 90))
    edges = [(49, 35), (49, 85)]

    def colors(results: list[Masks]) -> list[list[int]]:
        return [np.asarray(ImageMasks(results).draw(grey))[edge].tolist() for edge in edges]

    assert colors([both]) == [list(palette()[0])] * 2
    assert colors([none, both]) == [list(palette()[1])] * 2
    assert colors([first, second]) == [list(palette()[0]), list(palette()[1])]
    assert ImageMasks([first, second]).draw(grey).tobytes() == ImageMasks([first, second]).draw(grey).tobytes()


def test_the_color_of_a_thing_is_still_seen() -> None:
    found = square(40, 60, 80)
    red, blue = (np.asarray(found.draw(Image.new("RGB", (300, 200), color)))[100, 80] for color in ("red", "blue"))
    assert np.abs(np.subtract(red.astype(int), blue)).max() > 180
    many = draw_instances(Image.new("RGB", (300, 200), "red"), [found, found, found])  # tints do not add up
    only = draw_instances(Image.new("RGB", (300, 200), "red"), [square(0, 0, 9), square(0, 0, 9), found])
    assert many.getpixel((80, 100)) == only.getpixel((80, 100))


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


def luminance(color: tuple[int, int, int]) -> float:
    """WCAG 2.2's relative luminance."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.divide(color, 255)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("color", [*palette(), (0, 0, 0), (255, 255, 255), (118, 118, 118), (117, 117, 117)])
def test_text_can_be_read_on_each_color(color: tuple[int, int, int]) -> None:
    dark, bright = sorted((luminance(color), luminance(ink_on(color))))
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


def label_boxes(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], results: list[Masks]) -> np.ndarray:
    found = []
    monkeypatch.setattr(drawing, "_place", lambda *given: found.append(place(*given)) or found[-1])
    place = _place
    draw_instances(Image.new("RGB", size), results)
    return np.array([box for box in found if box is not None])


@pytest.mark.parametrize(("size", "count"), [((640, 480), 40), ((400, 30), 40), ((5000, 60), 9), ((400, 12), 3)])
def test_labels_stay_inside_and_apart(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], count: int) -> None:
    width, height = size
    side = min(height // 3, 40)
    lefts = [(37 * number) % (width - side) for number in range(count)]
    results = [square(left, (11 * left) % (height - side), side, (height, width), "thing") for left in lefts]
    boxes = label_boxes(monkeypatch, size, results)
    assert len(boxes) == {640: 40, 5000: 0}.get(width, len(boxes))
    if len(boxes):
        assert boxes[:, :2].min() >= 0
        assert (boxes[:, 2:].max(axis=0) <= size).all()
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in combinations(boxes.tolist(), 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1


def test_a_label_rather_hides_no_other_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just above the lower square there is another one."""
    shape = (480, 640)
    upper, lower = square(200, 150, 60, shape, "a"), square(200, 212, 60, shape, "b")
    for left, top, right, bottom in label_boxes(monkeypatch, (640, 480), [upper, lower]):
        assert not upper.masks[0, top:bottom, left:right].any()
        assert not lower.masks[0, top:bottom, left:right].any()


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
        drawn = ImageMasks(results).draw(file)
        with Image.open(file) as original:
            assert drawn.size == original.size or max(original.size) < drawing.LABELED
