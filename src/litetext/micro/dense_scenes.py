"""Sheets: pictures full of glyphs, from which the first stage of training learns what things look like."""

import numpy as np

from litetext.micro.backgrounds import make_background
from litetext.micro.concepts import concepts
from litetext.micro.glyphs import COLOURS
from litetext.micro.scenes import Scene, SceneOptions, Sprite, compose, develop, generator, turn

ROWS = 4  # glyphs a side
_SMALL, _LARGE = 0.56, 1.3  # of a cell
_SHIFT = 0.16
_TINTED = 0.6
_SEEN = 40  # pixels of an instance at least, for a picture of 160
_SHEET = 78  # no other stream of the split begins with it


def make_sheet(seed: int, options: SceneOptions) -> Scene:
    """The sheet of a seed: about sixteen glyphs on a jittered grid, of any concepts, of one of which little is hidden.

    Args:
        seed: 0 or more.
        options: `size` and `split` are read.
    """
    rng = generator(seed, options.split, _SHEET)
    known, names = concepts(), tuple(COLOURS)
    cell = options.size / ROWS
    sprites = []
    for place in rng.permutation(ROWS * ROWS):
        concept = known[rng.integers(len(known))]
        tinted = concept.tintable and rng.random() < _TINTED
        colour = names[rng.integers(len(names))] if tinted else None
        pixels = turn(rng, concept, colour, cell * rng.uniform(_SMALL, _LARGE))
        row, column = divmod(int(place), ROWS)
        x, y = (np.array([column, row]) + 0.5 + rng.uniform(-_SHIFT, _SHIFT, 2)) * cell
        sprites.append(Sprite(concept, colour, pixels, round(x - pixels.shape[1] / 2), round(y - pixels.shape[0] / 2)))
    scene = compose(make_background(rng, options.size), sprites)
    least = _SEEN * (options.size / 160) ** 2
    return Scene(develop(rng, scene.pixels), tuple(one for one in scene.instances if one.mask.sum() >= least))
