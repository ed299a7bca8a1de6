"""Pixels as a SAM3 model reads them, without PyTorch: bit for bit what `Sam3ImageProcessor` gives on a CPU."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
_CHUNK = 2**19  # bytes of pixels at once: they stay in the processor's cache while all weights go over them
_MOST_BITS = 22


def to_pixels(image: Bytes, size: tuple[int, int], mean: npt.ArrayLike, std: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """An RGB image uint8 [H, W, 3] at another size (height, width), as float32 [1, 3, height, width].

    Values are ``(value / 255 - mean) / std``, with a mean and a deviation for each channel.
    """
    shift, scale = (np.asarray(one, dtype=np.float32)[:, None, None] * np.float32(255) for one in (mean, std))
    channels = resize(image, size).transpose(2, 0, 1).astype(np.float32)
    return np.ascontiguousarray((channels - shift) / scale)[None]


def resize(image: Bytes, size: tuple[int, int]) -> Bytes:
    """An image uint8 [H, W, C] at another size (height, width), bilinear with antialiasing, as torchvision does it.

    First along the rows, then along the columns, each with weights of 16 bits and a rounded result; memory beside the
    two results is bounded.
    """
    height, width = size
    if image.shape[1] != width:
        image = _along_columns(image, width)
    if image.shape[0] != height:
        image = _along_columns(image.transpose(1, 0, 2), height).transpose(1, 0, 2)
    return np.ascontiguousarray(image)


def _along_columns(image: Bytes, width: int) -> Bytes:
    """An image [H, W, C] with another width."""
    first, weights, bits = _weights(image.shape[1], width)
    result = np.empty((len(image), width, image.shape[2]), dtype=np.uint8)
    step = max(1, _CHUNK // (max(image.shape[1], width) * image.shape[2]))
    last = image.shape[1] - 1
    for start in range(0, len(image), step):
        rows = image[start : start + step]
        total = np.full((len(rows), width, image.shape[2]), 1 << (bits - 1), dtype=np.int32)
        for tap, weight in enumerate(weights):
            places = np.minimum(first + tap, last)  # where it is cut off, the weight is 0
            total += rows[:, places].astype(np.int32) * weight[:, None]
        result[start : start + step] = np.clip(total >> bits, 0, 255)
    return result


@lru_cache(maxsize=16)
def _weights(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int]:
    """How ``new`` places are made of ``old``: the first of each, weights int32 [taps, new], and their binary places."""
    scale = old / new
    support = max(scale, 1.0)
    centers = scale * (np.arange(new) + 0.5)
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centers + support + 0.5).astype(np.int64), old) - first
    places = first + np.arange(count.max())[:, None]
    weights = np.maximum(1 - np.abs((places - centers + 0.5) / support), 0)
    weights[np.arange(count.max())[:, None] >= count] = 0
    weights /= weights.sum(axis=0)
    most = weights.max()
    bits = next((bits for bits in range(_MOST_BITS) if int(0.5 + most * (1 << (bits + 1))) >= 1 << 15), _MOST_BITS)
    return first, np.floor(weights * (1 << bits) + 0.5).astype(np.int32), bits
