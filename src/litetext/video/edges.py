"""Masks that follow the edges of their picture: the guided filter.

A model gives masks on a coarse grid, and edges that are off by a cell or two. Around each pixel the filter fits the
mask as a linear function of the picture's colors: where these change, so does the mask. Sources: He, Sun and Tang,
Guided Image Filtering, TPAMI 2013 (equations 14 to 16, for colors); He and Sun, Fast Guided Filter, arXiv 1505.00996
(the function is fitted on a smaller picture).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from litetext.sam3.masks import decode_masks, encode_masks, resize_masks
from litetext.sam3.pixels import resize

# Tuned on validation clips of the micro world (docs/explanation/video.md).
RADIUS = 3.2  # of the window in which the function is fitted, in cells of the mask
FLAT = 3e-5  # variance of colors from 0 to 1 up to which a window counts as flat: epsilon in the paper
FINENESS = 3  # pixels in a cell, at most, of the picture that the function is fitted on
COARSE = 64  # masks of at most 64 x 64 cells, as the micro model's, are refined by default; SAM3's have 288 a side
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of colors: a symmetric matrix

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def make_masks(
    pixels: Bytes, logits: npt.NDArray[Any], threshold: float, refine: bool | None = None
) -> npt.NDArray[np.bool_]:
    """Masks bool [N, H, W] of the size of a picture.

    Args:
        pixels: the picture, uint8 [H, W, 3].
        logits: of the masks, [N, h, w].
        threshold: a pixel is in where the probability is above it.
        refine: masks follow the edges of the picture (True), or are resized as SAM3 does it (False); None: they
            follow edges if they are coarse, of at most 64 x 64 cells.
    """
    grid, whole = logits.shape[1:], (pixels.shape[0], pixels.shape[1])
    if not (max(grid) <= COARSE if refine is None else refine):
        return resize_masks(logits, whole, threshold)
    masks = np.zeros((len(logits), *whole), dtype=np.bool_)
    size = (min(whole[0], FINENESS * grid[0]), min(whole[1], FINENESS * grid[1]))
    picture = colors = _channels(pixels)
    if size != whole:
        picture = _channels(resize(pixels, size))
    radii = [max(1, round(RADIUS * length / cells)) for length, cells in zip(size, grid, strict=True)]
    for mask, one in zip(masks, logits, strict=True):
        with np.errstate(over="ignore"):
            shares = _stretch(1 / (1 + np.exp(-one.astype(np.float32))), size)
        inside = shares > threshold
        if not inside.any():
            continue
        # Whatever is farther than two windows from the mask cannot reach it: it is averaged twice.
        rows, columns = (_around(np.asarray(inside.any(axis=1 - axis)), 2 * radii[axis]) for axis in (0, 1))
        slopes = np.zeros((4, *size), dtype=np.float32)
        slopes[:, rows, columns] = fit_colors(picture[:, rows, columns], shares[rows, columns], radii)
        if size != whole:
            slopes = np.stack([_stretch(channel, whole) for channel in slopes])
        mask[:] = (slopes[:3] * colors).sum(axis=0) + slopes[3] > threshold
    return masks


def fit_colors(picture: Floats, shares: Floats, radii: Sequence[int]) -> Floats:
    """A mask as a linear function of colors around each pixel, float32 [4, H, W]: three slopes and what is added.

    Args:
        picture: float32 [3, H, W], from 0 to 1.
        shares: how much of each pixel is in the mask, float32 [H, W].
        radii: of the window, in rows and in columns; at the border the part of it that is in the picture counts.
    """
    center = picture.mean(axis=(1, 2), keepdims=True)  # differences of squares keep more digits so
    colors = (picture - center).astype(np.float64)
    products = [colors[one] * colors[other] for one, other in _PAIRS]
    means = _window_means(np.stack([*colors, shares, *(colors * shares), *products]), radii)
    color, share = means[:3], means[3]
    x, y, z = means[4:7] - color * share
    pairs = zip(means[7:], _PAIRS, strict=True)
    a, b, c, d, e, f = (mean - color[i] * color[j] + FLAT * (i == j) for mean, (i, j) in pairs)
    minors = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    m00, m01, m02, m11, m12, m22 = minors
    slopes = np.stack([m00 * x + m01 * y + m02 * z, m01 * x + m11 * y + m12 * z, m02 * x + m12 * y + m22 * z])
    slopes /= a * m00 + b * m01 + c * m02
    fitted = _window_means(np.stack([*slopes, share - (slopes * color).sum(axis=0)]), radii)
    fitted[3] -= (fitted[:3] * center).sum(axis=0)
    return fitted.astype(np.float32)


def pack_masks(
    pixels: Bytes, logits: Sequence[npt.NDArray[Any]] | npt.NDArray[Any], threshold: float, refine: bool | None
) -> list[str]:
    """As `make_masks`, for frames that are held back: the counts of each mask's RLE, which `Tracker.state` can hold."""
    if not len(logits):
        return []
    masks = make_masks(pixels, np.stack(list(logits)), threshold, refine)
    return [code["counts"].decode("ascii") for code in encode_masks(masks)]


def unpack_masks(counts: Sequence[str], size: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Masks bool [N, H, W] that were packed."""
    return decode_masks([{"size": list(size), "counts": one} for one in counts], (size[0], size[1]))


def _window_means(channels: npt.NDArray[np.float64], radii: Sequence[int]) -> npt.NDArray[np.float64]:
    """The mean of each channel [C, H, W] in a window around each pixel."""
    for axis, radius in ((1, radii[0]), (2, radii[1])):
        count = channels.shape[axis]
        stop = np.minimum(np.arange(count) + radius + 1, count)
        start = np.maximum(np.arange(count) - radius, 0)
        sums = np.cumsum(np.insert(channels, 0, 0, axis=axis), axis=axis)
        lengths = (stop - start)[:, None] if axis == 1 else stop - start
        channels = (sums.take(stop, axis) - sums.take(start, axis)) / lengths
    return channels


def _channels(pixels: Bytes) -> Floats:
    """Pixels [H, W, 3] as colors from 0 to 1, float32 [3, H, W]."""
    channels: Floats = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return channels


def _stretch(values: Floats, size: tuple[int, int]) -> Floats:
    """Values [h, w] at a size in between, bilinearly."""
    image = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    stretched: Floats = np.asarray(image, dtype=np.float32)
    return stretched


def _around(inside: npt.NDArray[np.bool_], margin: int) -> slice:
    """The part of an axis from the first place that is inside to the last, and a margin on either side."""
    places = np.flatnonzero(inside)
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin)
