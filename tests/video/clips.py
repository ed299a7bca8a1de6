"""Tiny clips whose frames show their own number, so that a test sees which frame it got."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

BITS = 8


def picture(number: int, height: int = 64, width: int = 96) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Gray, with a number in binary as columns of black and white, a red left and a green right end above them."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    top, side = height // 4, width // BITS
    pixels[:top, : width // 4] = (255, 0, 0)
    pixels[:top, -(width // 4) :] = (0, 255, 0)
    for bit in range(BITS):
        pixels[top:, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    return pixels


def number_of(pixels: np.ndarray[Any, Any]) -> int:
    height, width = pixels.shape[:2]
    side = width // BITS
    row = pixels[height * 5 // 8, :, 1]
    return sum(int(row[bit * side + side // 2] > 127) << bit for bit in range(BITS))


def write_clip(
    path: Path,
    codec: str = "libx264",
    times: Iterable[float] = tuple(n / 10 for n in range(20)),
    *,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    size: tuple[int, int] = (64, 96),
    matrix: Sequence[int] | None = None,
    pixel_format: str = "yuv420p",
) -> Path:
    import av

    base = 10 if path.suffix == ".avi" else 1000
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=10, options={"g": "10", **(options or {})})
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, base)
        stream.codec_context.thread_count = 1
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size))
            frame.pts, frame.time_base = round(time * base), Fraction(1, base)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path
