"""What stands behind the things: crops of photographs, gradients, noise, plain colours."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image

CROP_SIDE, CROP_COLUMNS, CROPS = 192, 4, 12

Background = npt.NDArray[np.uint8]


@cache
def _crops() -> Background:
    with files("litetext.micro").joinpath("data/backgrounds.jpg").open("rb") as file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def make_background(rng: np.random.Generator, size: int) -> Background:
    """A picture without any of the concepts: half of them photographs.

    Returns:
        uint8 [size, size, 3], a new array.
    """
    makers: tuple[Callable[[np.random.Generator, int], Background], ...] = (_gradient, _noise, _plain)
    if rng.random() < 0.5:
        return _photograph(rng, size)
    return makers[rng.integers(len(makers))](rng, size)


def _photograph(rng: np.random.Generator, size: int) -> Background:
    """A part of a crop, turned and mirrored, in a random shade."""
    row, column = divmod(int(rng.integers(CROPS)), CROP_COLUMNS)
    part = int(rng.integers(96, CROP_SIDE + 1))
    top, left = rng.integers(0, CROP_SIDE - part + 1, 2) + CROP_SIDE * np.array([row, column])
    pixels = np.rot90(_crops()[top : top + part, left : left + part], int(rng.integers(4)))
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize((size, size), Image.Resampling.BILINEAR)
    gain, offset = rng.uniform(0.65, 1.1, 3), rng.uniform(-20, 30)
    levels = np.arange(256)[:, None] * gain + offset
    table = np.clip(levels, 0, 255).astype(np.uint8)
    return np.array(image.point(table.T.ravel().tolist()))


def _colour(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A muted colour: its channels are not far apart, so that tinted things stand out."""
    return np.clip(rng.uniform(50, 225) + rng.uniform(-35, 35, 3), 0, 255).astype(np.float32)


def _gradient(rng: np.random.Generator, size: int) -> Background:
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    share = np.clip(0.5 + np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None], 0, 1)[..., None]
    blend: Background = (_colour(rng) * (1 - share) + _colour(rng) * share).astype(np.uint8)
    return blend


def _noise(rng: np.random.Generator, size: int) -> Background:
    """Smooth blotches: a small random grid, enlarged."""
    grid = int(rng.integers(3, 24))
    values = np.clip(_colour(rng) + rng.normal(0, 30, (grid, grid, 3)), 0, 255).astype(np.uint8)
    return np.array(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def _plain(rng: np.random.Generator, size: int) -> Background:
    return np.broadcast_to(_colour(rng).astype(np.uint8), (size, size, 3)).copy()
