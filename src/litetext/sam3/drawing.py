"""Masks drawn over an image: a light tint and an outline in the phrase's color, and what the colors say."""

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from litetext.errors import printable

if TYPE_CHECKING:
    from litetext.sam3.masks import Masks

Color = tuple[int, int, int]
TINT = 0.25  # share of the color inside a mask: of a "red spoon" the red has to be seen
COLORS = 20
LABELED = 400  # pixels of the longer side from which labels stand in the picture; they would hide a smaller one
_FAR = 12.0  # heights of a label that it may stand away from its mask before it may rather cover another mask
_STRIP, _STRIP_INK = (255, 255, 255), (31, 41, 55)


# A mask bool [h, w], cut down to the pixels that it covers, left and top of the cut, its label and its color.
_Instance = tuple[npt.NDArray[np.bool_], tuple[int, int], str, Color]


def draw_instances(image: Image.Image, results: Sequence["Masks"]) -> Image.Image:
    """A copy of an RGB image with masks of its size in a color for each phrase, by their order.

    Large masks are drawn first, so that none is hidden. A label at each says phrase and score; below an image smaller
    than `LABELED` stands a strip instead, which lists the phrases that were found.
    """
    masks = [mask for result in results for mask in result.masks]
    colors = [number for number, result in enumerate(results) for _ in result.masks]
    if max(image.size) < LABELED:
        rows = [
            (palette()[number % COLORS], result.prompt, f"{len(result)} · {max(result.scores):.2f}")
            for number, result in enumerate(results)
            if len(result)
        ]
        return _above_strip(draw_masks(image, masks, colors), rows)
    labels = [f"{result.prompt} {score:.2f}" for result in results for score in result.scores]
    return draw_labeled(image, masks, labels, colors)


def draw_labeled(
    image: Image.Image, masks: Sequence[npt.NDArray[np.bool_]], labels: Sequence[str], colors: Sequence[int]
) -> Image.Image:
    """The same from masks, bool [H, W], with a label each; numbers choose the colors."""
    instances = _instances(masks, labels, colors)
    picture = _tinted(image, instances)
    _draw_labels(picture, instances)
    return picture


def draw_masks(
    image: Image.Image, masks: Sequence[npt.NDArray[np.bool_]], colors: Sequence[int] | None = None
) -> Image.Image:
    """A copy of an RGB image with masks, bool [H, W], without labels; numbers choose the colors, else the order."""
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


def ink_on(color: Color) -> Color:
    """Black or white, whichever has the larger contrast on a color: at least 4.5 on any (WCAG 2.2)."""
    parts = (part / 255 for part in color)
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)


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
    """A copy of an image with a tint and an outline for each instance; where several lie, with the last one's tint."""
    untinted = np.asarray(image)
    pixels = untinted.copy()
    line = max(1, round(max(image.size) / 200))
    for mask, (left, top), _, color in instances:
        height, width = mask.shape
        region = pixels[top : top + height, left : left + width]
        own = untinted[top : top + height, left : left + width][mask]
        region[mask] = ((1 - TINT) * own + TINT * np.array(color, dtype=np.float32)).astype(np.uint8)
        region[_outline(mask, line + line // 2)] = ink_on(color)  # a thing may have the color of its outline
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
    """A label near each mask, small masks first; one that has no free place is left out."""
    pen = ImageDraw.Draw(picture)
    font = label_font(max(10, round(max(picture.size) / 55)))
    margin = max(1, round(font.size / 5))
    covered = np.zeros((picture.height, picture.width), dtype=np.bool_)
    for mask, (left, top), _, _ in instances:
        covered[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    sums = np.pad(covered.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32), ((1, 0), (1, 0)))
    taken = np.zeros((0, 4), dtype=np.int64)
    for _, corner, whole, color in reversed(instances):
        label = _fit(whole, font, picture.width - 2 * margin)
        text = pen.textbbox((0, 0), label, font=font)
        size = (round(text[2] - text[0]) + 2 * margin, round(text[3] - text[1]) + 2 * margin)
        box = _place(corner, size, sums, taken)
        if box is not None:
            taken = np.vstack([taken, box])
            pen.rectangle((*box[:2], *(box[2:] - 1)), fill=color)
            pen.text((box[0] + margin - text[0], box[1] + margin - text[1]), label, fill=ink_on(color), font=font)


def _place(
    corner: tuple[int, int], size: tuple[int, int], sums: npt.NDArray[np.int32], taken: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64] | None:
    """Where in the picture a label goes: where no other is, close above its mask, and rather not over masks.

    ``sums`` [H + 1, W + 1] counts the pixels of masks above and left of a point. Boxes are left, top, right, bottom.
    """
    (width, height), room = size, np.array(sums.shape[::-1]) - 1 - size
    if min(room) < 0:
        return None
    start = np.clip((corner[0], corner[1] - height), 0, room)
    lefts, tops = (
        np.union1d(np.arange(0, most + 1, step), [first])
        for most, step, first in zip(room, (max(1, width // 2), height), start, strict=True)
    )
    corners = np.stack(np.meshgrid(lefts, tops), axis=-1).reshape(-1, 2)
    boxes = np.hstack([corners, corners + size])
    left, top, right, bottom = boxes.T
    overlaps = (corners[:, None] < taken[:, 2:]) & (taken[:, :2] < boxes[:, None, 2:])
    free = ~np.any(np.all(overlaps, axis=2), axis=1)
    if not free.any():
        return None
    hidden = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    cost = np.abs(corners - start).sum(axis=1) / height + _FAR * hidden / (width * height)
    found: npt.NDArray[np.int64] = boxes[np.where(free, cost, np.inf).argmin()]
    return found


def _above_strip(picture: Image.Image, rows: Sequence[tuple[Color, str, str]]) -> Image.Image:
    """The picture above a strip as wide, with a color, a phrase and what is said of it in each row."""
    font, row = label_font(10), 14
    if not rows or picture.width < 4 * row:
        return picture
    whole = Image.new("RGB", (picture.width, picture.height + row * len(rows)), _STRIP)
    whole.paste(picture)
    pen = ImageDraw.Draw(whole)
    for number, (color, phrase, said) in enumerate(rows):
        top, right = picture.height + row * number, picture.width - 3 - font.getlength(said)
        pen.rectangle((3, top + 3, row - 4, top + row - 4), fill=color)
        pen.text((row, top + 1), _fit(phrase, font, right - row - 3), fill=_STRIP_INK, font=font)
        pen.text((right, top + 1), said, fill=_STRIP_INK, font=font)
    return whole


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text on one line, or as much of it as the width holds."""
    text = printable(" ".join(text[:400].split()))
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
