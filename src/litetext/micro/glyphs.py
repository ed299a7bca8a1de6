"""What a scene is made of: glyphs cut out of the sheet, tinted and halved for small sizes, and backgrounds."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE, COLUMNS = 80, 16
# Far enough apart that lighting does not turn one into another.
COLOURS = MappingProxyType(
    {
        "red": (214, 22, 30),
        "orange": (255, 130, 0),
        "yellow": (250, 222, 0),
        "green": (30, 160, 45),
        "blue": (30, 85, 225),
        "purple": (140, 40, 190),
    }
)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@cache
def _sheet() -> npt.NDArray[np.uint8]:
    with files("litetext.micro").joinpath("data/glyphs.webp").open("rb") as file, Image.open(file) as image:
        return np.asarray(image.convert("RGBA"))


@cache
def glyph(index: int, colour: str | None, level: int) -> Image.Image:
    """One glyph as an RGBA image of SIDE / 2**level pixels a side.

    Args:
        index: the concept's place in the sheet.
        colour: a name of COLOURS, or None for the glyph's own colours.
        level: 0, 1 or 2; a glyph that is drawn small is taken from a halved one, or it would sparkle.
    """
    if level:
        half = SIDE >> level
        return glyph(index, colour, level - 1).resize((half, half), Image.Resampling.BOX)
    row, column = divmod(index, COLUMNS)
    pixels = _sheet()[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
    return Image.fromarray(pixels if colour is None else tint(pixels, COLOURS[colour]))


def tint(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """A glyph, uint8 [H, W, 4], in one hue, lights and shades in their order: black, then the colour, then near white.

    The median luminance of the opaque part becomes the pure colour, so that a dark or a pale glyph takes it as well.
    """
    luminance = pixels[..., :3].astype(np.float32) @ _LUMA / 255
    opaque = luminance[pixels[..., 3] > 127]
    middle = float(np.clip(np.median(opaque), 0.08, 0.92)) if opaque.size else 0.5
    pure = np.array(colour, dtype=np.float32)
    shade = (0.3 + 0.7 * np.minimum(luminance / middle, 1))[..., None]
    light = 0.6 * (np.clip((luminance - middle) / (1 - middle), 0, 1)[..., None])
    result = pixels.copy()
    result[..., :3] = np.rint(pure * shade * (1 - light) + 255 * light)
    return result


CROP_SIDE, CROP_COLUMNS, CROPS = 192, 4, 12

Background = npt.NDArray[np.uint8]


@cache
def _crops() -> Background:
    with files("litetext.micro").joinpath("data/backgrounds.jpg").open("rb") as file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def make_background(rng: np.random.Generator, size: int) -> Background:
    """A new picture, uint8 [size, size, 3], without any of the concepts: half of them are photographs."""
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
