"""The glyphs as arrays: cut out of the sheet, tinted, and halved for small sizes."""

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
    """A glyph in one hue, its lights and shades in their order: black, then the colour, then near white.

    The median luminance of the opaque part becomes the pure colour, so that a dark or a pale glyph takes it as well.

    Args:
        pixels: uint8 [H, W, 4].
        colour: red, green, blue from 0 to 255.
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
