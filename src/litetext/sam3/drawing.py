"""Masks drawn over an image: a tint and an outline in the instance's color, a label with phrase and score."""

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from litetext.sam3.masks import Masks

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]
TINT = 0.45  # share of the color inside a mask
COLORS = 20


# A mask bool [h, w], cut down to the pixels that it covers, left and top of the cut, its label and its color.
_Instance = tuple[npt.NDArray[np.bool_], tuple[int, int], str, Color]


def draw_instances(image: Image.Image, results: Sequence["Masks"]) -> Image.Image:
    """A copy of an RGB image with masks of its size: large ones first so that none is hidden, then the labels."""
    masks = (mask for result in results for mask in result.masks)
    labels = (f"{result.prompt} {score:.2f}" for result in results for score in result.scores)
    return draw_labeled(image, list(masks), list(labels))


def draw_labeled(
    image: Image.Image,
    masks: Sequence[npt.NDArray[np.bool_]],
    labels: Sequence[str],
    colors: Sequence[int] | None = None,
) -> Image.Image:
    """The same from masks, bool [H, W], with a label each; numbers choose the colors, else the order does."""
    instances = _instances(masks, labels, range(len(masks)) if colors is None else colors)
    picture = _tinted(image, instances)
    _draw_labels(picture, instances)
    return picture


def draw_masks(image: Image.Image, masks: npt.NDArray[np.bool_], colors: Sequence[int] | None = None) -> Image.Image:
    """A copy of an RGB image with masks, bool [N, H, W], without labels; numbers choose the colors, else the order."""
    return _tinted(image, _instances(masks, [""] * len(masks), range(len(masks)) if colors is None else colors))


@lru_cache(maxsize=1)
def palette() -> tuple[Color, ...]:
    """Twenty colors: hues a golden angle apart, so that neighbors in the list differ most, in two brightnesses."""
    colors = []
    for index in range(COLORS):
        value, saturation = (1.0, 0.9) if index % 2 == 0 else (0.75, 1.0)
        red, green, blue = colorsys.hsv_to_rgb((0.02 + index * 0.381966) % 1, saturation, value)
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colors)


@lru_cache(maxsize=8)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: Pillow's own font has Latin letters only."""
    package = find_spec("matplotlib")  # importing it takes a fifth of a second
    if package is None or package.origin is None:
        return ImageFont.load_default(size)  # type: ignore[return-value]
    return ImageFont.truetype(str(Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"), size)


def _instances(masks: Iterable[npt.NDArray[np.bool_]], labels: Iterable[str], colors: Iterable[int]) -> list[_Instance]:
    """The instances that cover any pixel, large ones first; colors are numbers of the palette, which repeats itself."""
    instances = []
    for mask, label, color in zip(masks, labels, colors, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            instances.append((cut, (int(columns[0]), int(rows[0])), label, palette()[color % COLORS]))
    return sorted(instances, key=lambda instance: instance[0].size, reverse=True)


def _tinted(image: Image.Image, instances: Sequence[_Instance]) -> Image.Image:
    """A copy of an image with a tint and an outline for each instance."""
    pixels = np.array(image)
    line = max(1, round(max(image.size) / 500))
    for mask, (left, top), _, color in instances:
        height, width = mask.shape
        region = pixels[top : top + height, left : left + width]
        region[mask] = ((1 - TINT) * region[mask] + TINT * np.array(color, dtype=np.float32)).astype(np.uint8)
        region[_outline(mask, line)] = color
    return Image.fromarray(pixels)


def _outline(mask: npt.NDArray[np.bool_], line: int) -> npt.NDArray[np.bool_]:
    """The pixels of a mask that are within ``line`` pixels of its border."""
    inner = np.pad(mask, 1)
    for _ in range(line):
        kept = inner.copy()
        kept[1:] &= inner[:-1]
        kept[:-1] &= inner[1:]
        kept[:, 1:] &= inner[:, :-1]
        kept[:, :-1] &= inner[:, 1:]
        inner = kept
    edge: npt.NDArray[np.bool_] = mask & ~inner[1:-1, 1:-1]
    return edge


def _draw_labels(picture: Image.Image, instances: Sequence[_Instance]) -> None:
    """A label at the top of each mask, moved where another label is in the way."""
    pen = ImageDraw.Draw(picture)
    font = label_font(max(10, round(max(picture.size) / 55)))
    margin = max(1, round(font.size / 5))
    taken: list[Box] = []
    for mask, corner, label, color in reversed(instances):
        text = pen.textbbox((0, 0), label, font=font)
        size = (round(text[2] - text[0]) + 2 * margin, round(text[3] - text[1]) + 2 * margin)
        box = _place(corner, len(mask), size, picture.size, taken)
        taken.append(box)
        red, green, blue = color
        is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140  # luma of BT.601
        ink = (0, 0, 0) if is_bright else (255, 255, 255)
        pen.rectangle(box, fill=color)
        pen.text((box[0] + margin - text[0], box[1] + margin - text[1]), label, fill=ink, font=font)


def _place(
    corner: tuple[int, int], mask_height: int, size: tuple[int, int], picture: tuple[int, int], taken: Sequence[Box]
) -> Box:
    """Where a label goes: the first free place from just above the mask downwards, or from there upwards."""
    width, height = size
    left = max(0, min(corner[0], picture[0] - width))
    first = max(0, corner[1] - height)
    step = max(1, height // 2)
    below = range(first, first + mask_height + 2 * height, step)
    for top in (*below, *range(first, 0, -step)):
        box = (left, top, left + width, top + height)
        overlaps = (box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)
        if box[3] <= picture[1] and not any(overlaps):
            return box
    return (left, first, left + width, first + height)
