"""Masks drawn over an image: a tint and an outline in the instance's colour, a label with phrase and score."""

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from litetext.sam3.masks import Masks

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
TINT = 0.45  # share of the colour inside a mask
COLOURS = 20


@dataclass(frozen=True, eq=False)
class _Instance:
    """One mask, cut down to the pixels that it covers.

    Attributes:
        mask: bool [h, w].
        corner: left and top of the cut.
        label: phrase and score.
        colour: of tint, outline and label.
    """

    mask: npt.NDArray[np.bool_]
    corner: tuple[int, int]
    label: str
    colour: Colour


def draw_instances(image: Image.Image, results: Sequence["Masks"]) -> Image.Image:
    """Draw every mask, large ones first so that none is hidden, and then the labels.

    Args:
        image: RGB; it is not changed.
        results: masks of the image's size.
    """
    masks = (mask for result in results for mask in result.masks)
    labels = (f"{result.prompt} {score:.2f}" for result in results for score in result.scores)
    instances = _instances(masks, labels)
    picture = _tinted(image, instances)
    _draw_labels(picture, instances)
    return picture


def draw_masks(image: Image.Image, masks: npt.NDArray[np.bool_]) -> Image.Image:
    """Draw masks without labels, large ones first.

    Args:
        image: RGB; it is not changed.
        masks: bool [N, H, W], of the image's size.
    """
    return _tinted(image, _instances(masks, [""] * len(masks)))


def _tinted(image: Image.Image, instances: Sequence[_Instance]) -> Image.Image:
    """A copy of an image with a tint and an outline for each instance."""
    pixels = np.array(image)
    line = max(1, round(max(image.size) / 500))
    for one in instances:
        left, top = one.corner
        height, width = one.mask.shape
        region = pixels[top : top + height, left : left + width]
        colour = np.array(one.colour, dtype=np.float32)
        region[one.mask] = ((1 - TINT) * region[one.mask] + TINT * colour).astype(np.uint8)
        region[_outline(one.mask, line)] = one.colour
    return Image.fromarray(pixels)


@lru_cache(maxsize=1)
def palette() -> tuple[Colour, ...]:
    """Twenty colours: hues a golden angle apart, so that neighbors in the list differ most, in two brightnesses."""
    colours = []
    for index in range(COLOURS):
        value, saturation = (1.0, 0.9) if index % 2 == 0 else (0.75, 1.0)
        red, green, blue = colorsys.hsv_to_rgb((0.02 + index * 0.381966) % 1, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours)


def _instances(masks: Iterable[npt.NDArray[np.bool_]], labels: Iterable[str]) -> list[_Instance]:
    """The instances that cover any pixel, large ones first; colours are given in the order of the masks."""
    found = []
    for index, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            found.append(_Instance(cut, (int(columns[0]), int(rows[0])), label, palette()[index % COLOURS]))
    return sorted(found, key=lambda one: one.mask.size, reverse=True)


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
    for one in reversed(instances):
        text = pen.textbbox((0, 0), one.label, font=font)
        size = (round(text[2] - text[0]) + 2 * margin, round(text[3] - text[1]) + 2 * margin)
        box = _place(one, size, picture.size, taken)
        taken.append(box)
        pen.rectangle(box, fill=one.colour)
        pen.text((box[0] + margin - text[0], box[1] + margin - text[1]), one.label, fill=_ink(one.colour), font=font)


def _place(one: _Instance, size: tuple[int, int], picture: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Where a label goes: the first free place from just above the mask downwards, or from there upwards."""
    width, height = size
    left = max(0, min(one.corner[0], picture[0] - width))
    first = max(0, one.corner[1] - height)
    step = max(1, height // 2)
    below = range(first, first + one.mask.shape[0] + 2 * height, step)
    for top in (*below, *range(first, 0, -step)):
        box = (left, top, left + width, top + height)
        if box[3] <= picture[1] and not any(_overlap(box, other) for other in taken):
            return box
    return (left, first, left + width, first + height)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever is read better on the colour (luma of BT.601)."""
    return (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else (255, 255, 255)


@lru_cache(maxsize=8)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: Pillow's own font has Latin letters only."""
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
