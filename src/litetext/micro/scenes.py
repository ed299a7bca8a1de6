"""Scenes: glyphs laid over a background, with the exact visible mask of each."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from litetext.errors import OptionError
from litetext.micro.concepts import Concept, concepts
from litetext.micro.glyphs import COLOURS, SIDE, glyph, make_background

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
# First numbers of random streams beside a scene's own, so that none repeats another.
BATCH_STREAM, DENSE_STREAM, OUT_OF_DOMAIN_STREAM, CORPUS_STREAM, CLIP_STREAM = 77, 78, 79, 80, 81
_TRIES = 6
_MIN_PIXELS = 24

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SceneOptions:
    """How scenes are drawn.

    Attributes:
        size: pixels a side, from 48 to 1024.
        most: the largest number of instances, from 1 to 8.
        min_visible: an instance of which less than this share can be seen is placed again, or left out.
        split: scenes of one seed differ from split to split, and training leaves the held-out nouns alone.
        pairs: (picture, phrase) pairs made of one scene.
    """

    size: int = 160
    most: int = 8
    min_visible: float = 0.3
    split: Split = "train"
    pairs: int = 6

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low, high in (
            ("size", 48, 1024),
            ("most", 1, 8),
            ("min_visible", 0.12, 1),
            ("pairs", 1, 60),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(f"{name} {value} of a scene", hint=f"give {low} to {high}")
        if self.split not in SPLITS:
            raise OptionError(f"no split '{self.split}'", hint=f"there are {', '.join(SPLITS)}")


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing in a scene.

    Attributes:
        concept: what it is.
        colour: the name of its tint, or None: the glyph's own colours, of which nothing is said.
        mask: bool [H, W], its visible part.
        box: left, top, right, bottom of the mask in pixels, right and bottom exclusive.
        extent: the longer side of the whole thing, hidden parts too, as a share of the picture's side.
    """

    concept: Concept
    colour: str | None
    mask: Mask
    box: tuple[int, int, int, int]
    extent: float

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box, x and y as shares of the picture's sides."""
        height, width = self.mask.shape
        return (self.box[0] + self.box[2]) / 2 / width, (self.box[1] + self.box[3]) / 2 / height


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture, uint8 [H, W, 3], and everything in it, from back to front; the masks are disjoint."""

    pixels: Pixels
    instances: tuple[Instance, ...]


@dataclass(frozen=True, eq=False)
class Sprite:
    """A turned and scaled glyph, uint8 [h, w, 4], and where its corner is laid; it may reach over the border."""

    concept: Concept
    colour: str | None
    pixels: Pixels
    left: int
    top: int


def make_scene(seed: int, options: SceneOptions | None = None) -> Scene:
    """Draw the scene of a seed (0 or more); the same seed and options give the same bytes."""
    options = options or SceneOptions()
    rng = generator(seed, options.split)
    background = make_background(rng, options.size)
    sprites: list[Sprite] = []
    while not sprites:
        sprites = _place(rng, _cast(rng, options.most), options)
    scene = compose(background, sprites)
    return Scene(develop(scene.pixels, make_look(rng, options.size)), scene.instances)


def generator(seed: int, split: Split, *more: int) -> np.random.Generator:
    """The source of randomness of a seed (0 or more) in a split; different splits have nothing in common."""
    if seed < 0:
        raise OptionError(f"seed {seed} is negative", hint="give 0 or more")
    return np.random.default_rng([seed, *more, len(more), SPLITS.index(split)])


def compose(background: Pixels, sprites: list[Sprite]) -> Scene:
    """Lay sprites over a background, uint8 [H, W, 3], which is not changed; the first one is the deepest.

    A pixel belongs to the last sprite of which at least half covers it (alpha of 128 or more). Sprites of which nothing
    is seen are no instances.
    """
    canvas, masks = lay(background, sprites)
    instances = (_instance(sprite, mask) for sprite, mask in zip(sprites, masks, strict=True) if mask.any())
    return Scene(canvas, tuple(instances))


def lay(background: Pixels, sprites: list[Sprite]) -> tuple[Pixels, list[Mask]]:
    """The picture that `compose` makes, and what is seen of each sprite, bool [H, W]: empty if hidden."""
    owner = np.full(background.shape[:2], -1, dtype=np.int8)
    canvas = background.copy()
    for index, sprite in enumerate(sprites):
        there, here = _overlap(sprite, background.shape[0], background.shape[1])
        patch = sprite.pixels[here]
        alpha = patch[..., 3:].astype(np.uint16)
        under = canvas[there].astype(np.uint16)
        canvas[there] = (patch[..., :3] * alpha + under * (255 - alpha) + 127) // 255
        owner[there][patch[..., 3] >= 128] = index
    return canvas, [owner == index for index in range(len(sprites))]


def _instance(sprite: Sprite, mask: Mask) -> Instance:
    """A sprite as it is seen: `mask` is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Instance(sprite.concept, sprite.colour, mask, box, max(sprite.pixels.shape[:2]) / max(mask.shape))


def _overlap(sprite: Sprite, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The window of a sprite in a picture, and the same window in the sprite's own pixels."""
    rows, columns = sprite.pixels.shape[:2]
    top, left = max(sprite.top, 0), max(sprite.left, 0)
    bottom, right = max(min(sprite.top + rows, height), top), max(min(sprite.left + columns, width), left)
    there = (slice(top, bottom), slice(left, right))
    here = (slice(top - sprite.top, bottom - sprite.top), slice(left - sprite.left, right - sprite.left))
    return there, here


def _cast(rng: np.random.Generator, most: int) -> list[tuple[Concept, str | None]]:
    """Sample the instances of a scene: one to five concepts, often of one family, each once or more.

    All instances of a concept are tinted, or none.
    """
    count = int(rng.integers(1, most + 1))
    known = concepts()
    first = known[rng.integers(len(known))]
    chosen = [first]
    relatives = [concept for concept in known if concept.family == first.family]
    for _ in range(min(count - 1, int(rng.integers(0, 5)))):
        pool = relatives if rng.random() < 0.45 else known
        chosen.append(pool[rng.integers(len(pool))])
    tinted = {concept.index: concept.tintable and rng.random() < 0.75 for concept in chosen}
    names = tuple(COLOURS)
    cast: list[tuple[Concept, str | None]] = []
    for number in range(count):
        concept = chosen[number] if number < len(chosen) else chosen[rng.integers(len(chosen))]
        colour = names[rng.integers(len(names))] if tinted[concept.index] else None
        cast.append((concept, colour))
    return cast


def _place(rng: np.random.Generator, cast: list[tuple[Concept, str | None]], options: SceneOptions) -> list[Sprite]:
    """Give each a size, a turn and a place where enough of everybody can be seen; who finds none is left out."""
    size = options.size
    solid: list[Sprite] = []
    owner = np.full((size, size), -1, dtype=np.int8)
    seen, needed = np.zeros(0, dtype=np.int64), np.zeros(0)  # pixels of each: seen, and to be seen at least
    widest = 0.62 if len(cast) < 4 else 0.45
    for concept, colour in cast:
        extent = size * math.exp(rng.uniform(math.log(0.14), math.log(widest)))
        pixels = turn(rng, concept, colour, extent)
        covers = pixels[..., 3] >= 128
        need = max(options.min_visible * np.count_nonzero(covers), _MIN_PIXELS)
        for _ in range(_TRIES):
            x, y = rng.uniform(0.06, 0.94, 2) * size
            sprite = Sprite(concept, colour, pixels, round(x - pixels.shape[1] / 2), round(y - pixels.shape[0] / 2))
            there, here = _overlap(sprite, size, size)
            window, cover = owner[there], covers[here]
            hidden = np.bincount(window[cover] + 1, minlength=len(solid) + 1)
            left = np.append(seen - hidden[1:], np.count_nonzero(cover))
            if np.all(left >= np.append(needed, need)):
                window[cover] = len(solid)
                seen, needed = left, np.append(needed, need)
                solid.append(sprite)
                break
    return solid


def turn(rng: np.random.Generator, concept: Concept, colour: str | None, extent: float) -> Pixels:
    """A glyph of about `extent` pixels, turned, perhaps mirrored, in a light of its own; cut to what it covers."""
    angle = math.radians(float(np.clip(rng.normal(0, 14), -45, 45)))
    mirrored = rng.random() < 0.5
    light = rng.uniform(0.78, 1.12)
    return draw_glyph(concept, colour, extent, angle, light, mirrored=mirrored)


def draw_glyph(
    concept: Concept, colour: str | None, extent: float, angle: float, light: float, *, mirrored: bool
) -> Pixels:
    """A glyph of about `extent` pixels, turned by an angle in radians, cut to what it covers: uint8 [h, w, 4]."""
    level = min(2, max(0, int(math.log2(SIDE / extent))))
    source = glyph(concept.index, colour, level)
    scale = extent / source.width
    side = math.ceil(extent * (abs(math.cos(angle)) + abs(math.sin(angle)))) + 2
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    flip = -1 if mirrored else 1
    middle, centre = side / 2, source.width / 2
    # Pillow asks where in the source each pixel of the result comes from.
    matrix = (flip * cos, flip * sin, 0.0, -sin, cos, 0.0)
    x = centre - matrix[0] * middle - matrix[1] * middle
    y = centre - matrix[3] * middle - matrix[4] * middle
    turned = source.transform(
        (side, side),
        Image.Transform.AFFINE,
        (matrix[0], matrix[1], x, matrix[3], matrix[4], y),
        resample=Image.Resampling.BILINEAR,
    )
    pixels = np.asarray(turned.crop(turned.getbbox()))
    result = pixels.copy()
    result[..., :3] = np.minimum((pixels[..., :3].astype(np.uint32) * int(light * 256)) >> 8, 255)
    return result


@dataclass(frozen=True, eq=False)
class Look:
    """The light of a whole picture, a slight blur, the grain of a sensor: `blur` pixels, light and grain [H, W]."""

    blur: float
    light: npt.NDArray[np.float32]
    warmth: npt.NDArray[np.float32]
    grain: npt.NDArray[np.float32]


def make_look(rng: np.random.Generator, size: int) -> Look:
    """A random look of pictures of `size` pixels a side."""
    blur = float(rng.uniform(0.2, 0.9)) * size / 160 if rng.random() < 0.4 else 0.0
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across, down = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.85, 1.08)) + across * ramp[None, :] + down * ramp[:, None]
    warmth = rng.uniform(0.96, 1.04, 3).astype(np.float32)
    grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(rng.uniform(0, 5))
    return Look(blur, light, warmth, grain)


def develop(pixels: Pixels, look: Look) -> Pixels:
    """A picture in a look; nothing moves, hues stay."""
    if look.blur:
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.BoxBlur(look.blur)))
    result = np.empty_like(pixels)
    for channel in range(3):  # plane by plane: small arrays stay in the processor's cache
        plane = pixels[..., channel] * (look.light * look.warmth[channel]) + look.grain
        result[..., channel] = np.clip(plane, 0, 255, out=plane)
    return result
