"""Clips: things of the micro world that move, with the exact visible mask of each in every frame, and phrases."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError
from litetext.micro.concepts import Concept, concepts, held_out_nouns
from litetext.micro.glyphs import COLOURS, make_background
from litetext.micro.phrases import LARGE, SMALL, Kind, Query, is_true, named, negative, say
from litetext.micro.scenes import (
    CLIP_STREAM,
    Instance,
    Look,
    Mask,
    Pixels,
    Scene,
    Split,
    Sprite,
    develop,
    draw_glyph,
    generator,
    lay,
    make_look,
)

Plot = Literal["ordinary", "crossing", "hidden", "returning", "shaky", "cut", "changing"]
PLOTS: tuple[Plot, ...] = get_args(Plot)
LENGTHS: dict[Plot, int] = {
    "ordinary": 16,
    "crossing": 20,
    "hidden": 24,
    "returning": 28,
    "shaky": 20,
    "cut": 20,
    "changing": 20,
}
MOST = 4  # things in a clip, or in each half of one with a cut
SPEED = 8 / 160  # the fastest, in sides of the picture a frame
MIN_PIXELS = 24  # a thing of which less is seen in a frame counts as hidden there
_MARGIN = 0.08  # how far a shaking camera moves at most, in sides
_HIDDEN_FRAMES = 3
_TRIES = 40

Path = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Thing:
    """Something that moves.

    Attributes:
        concept: what it is.
        colour: its tint, or None, as `Instance` has it.
        path: [T, 4]: the centre's x and y and the extent, in sides of the picture, and the angle in radians.
        light: of its own, about 1.
        mirrored: whether its glyph is.
        start: the first frame that has it.
        stop: the frame after its last.
    """

    concept: Concept
    colour: str | None
    path: Path
    light: float
    mirrored: bool
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class ClipPhrase:
    """A phrase about a clip.

    Attributes:
        text: its words.
        kind: as `Phrase` has it.
        names: bool [things, T]: in which frames it is true of which thing, seen or not.
    """

    text: str
    kind: Kind
    names: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip of T frames of size x size pixels, drawn frame by frame when asked.

    Attributes:
        plot: what happens.
        size: pixels a side.
        things: from back to front.
        phrases: about it; one is absent.
        views: of the frames from a number on: background (with a margin where the camera shakes) and look.
        camera: int [T, 2], how far the view is moved down and to the right in its background, in pixels.
    """

    plot: Plot
    size: int
    things: tuple[Thing, ...]
    phrases: tuple[ClipPhrase, ...]
    views: tuple[tuple[int, Pixels, Look], ...]
    camera: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """The number of frames T."""
        return len(self.camera)

    def draw(self, frame: int) -> tuple[Pixels, list[Mask]]:
        """A frame, uint8 [size, size, 3], and of each thing what is seen of it, bool [size, size]."""
        _, background, look = [view for view in self.views if view[0] <= frame][-1]
        down, right = self.camera[frame].tolist()
        visible = [thing for thing in self.things if thing.start <= frame < thing.stop]
        sprites = [_sprite(thing, frame, self.size, down, right) for thing in visible]
        canvas, masks = lay(background[down : down + self.size, right : right + self.size], sprites)
        seen = {id(thing): mask for thing, mask in zip(visible, masks, strict=True)}
        nothing = np.zeros((self.size, self.size), dtype=np.bool_)
        # The grain of each frame is that of the look, moved by a step that does not soon come back to where it was.
        grain = np.roll(look.grain, (frame * 61 % self.size, frame * 37 % self.size), axis=(0, 1))
        pixels = develop(canvas, replace(look, grain=grain))
        return pixels, [seen.get(id(thing), nothing) for thing in self.things]

    def __iter__(self) -> Iterator[tuple[Pixels, list[Mask]]]:
        """Each frame as `draw` gives it."""
        return (self.draw(frame) for frame in range(len(self)))

    def true_masks(self, phrase: ClipPhrase, frame: int, masks: list[Mask]) -> dict[int, Mask]:
        """The masks of a frame that a phrase names, by the number of the thing; what is hidden is not among them."""
        named_now = np.flatnonzero(phrase.names[:, frame]).tolist()
        return {index: masks[index] for index in named_now if np.count_nonzero(masks[index]) >= MIN_PIXELS}


def make_clip(seed: int, plot: Plot, *, size: int = 160, length: int | None = None, split: Split = "train") -> Clip:
    """The clip of a seed (0 or more): the same arguments give the same bytes.

    Args:
        seed: clips of different seeds, splits and plots have nothing in common.
        plot: "ordinary": up to 4 things wander, grow and turn. "crossing": two of one concept and tint cross.
            "hidden": one passes behind a larger one. "returning": one leaves the picture and comes back. "shaky": the
            camera shakes. "cut": everything is replaced in the middle. "changing": a phrase becomes untrue of a thing.
        size: pixels a side, from 48 to 1024.
        length: frames, 8 or more; None: as `LENGTHS` has it.
        split: training leaves the held-out nouns alone.

    Raises:
        OptionError: no such plot, a number out of its range, or too few frames for what happens.
    """
    check_plot(plot)
    frames = LENGTHS[plot] if length is None else length
    for name, value, least, most in (("size", size, 48, 1024), ("length", frames, 8, 10**7)):
        if not least <= value <= most:
            raise OptionError(f"{name} {value} of a clip", hint=f"give {least} to {most}")
    rng = generator(seed, split, CLIP_STREAM, PLOTS.index(plot))
    for _ in range(_TRIES):
        clip = _try_clip(rng, plot, size, frames, split)
        if clip is not None:
            return clip
    what = f"no clip of '{plot}' with {frames} frames in {_TRIES} tries"
    raise OptionError(what, hint=f"give more frames, or none: {LENGTHS[plot]}")


def check_plot(name: str) -> Plot:
    """The plot of that name; an `OptionError` if there is none."""
    for plot in PLOTS:
        if plot == name:
            return plot
    raise OptionError(f"no plot '{name}'", hint=f"there are {', '.join(PLOTS)}")


def _try_clip(rng: np.random.Generator, plot: Plot, size: int, frames: int, split: Split) -> Clip | None:
    """A clip, or None where the plot did not come about."""
    things = _STORIES[plot](rng, frames)
    margin = round(_MARGIN * size) if plot == "shaky" else 0
    cuts = sorted({thing.start for thing in things})
    views = tuple((start, make_background(rng, size + 2 * margin), make_look(rng, size)) for start in cuts)
    camera = np.full((frames, 2), margin)
    if margin:
        shake = np.cumsum(rng.normal(0, 0.012 * size, (frames, 2)), axis=0)
        camera = np.clip(margin + np.rint(shake - shake.mean(axis=0)), 0, 2 * margin).astype(np.int64)
    phrases = _phrases(rng, plot, things, frames, split)
    if phrases is None:
        return None
    clip = Clip(plot, size, tuple(things), phrases, views, camera)
    return clip if _comes_about(clip) else None


def _comes_about(clip: Clip) -> bool:
    """Whether everything is seen at first, and what should hide is hidden and then seen again."""
    firsts = {thing.start: clip.draw(thing.start)[1] for thing in clip.things}
    if any(firsts[one.start][index].sum() < MIN_PIXELS for index, one in enumerate(clip.things)):
        return False
    if clip.plot not in ("hidden", "returning"):
        return True
    star = 0  # stories put it at the back
    seen = [bool(np.count_nonzero(masks[star]) >= MIN_PIXELS) for _, masks in clip]
    return seen.count(False) >= _HIDDEN_FRAMES and all(seen[:3]) and all(seen[-3:])


def _sprite(thing: Thing, frame: int, size: int, down: int, right: int) -> Sprite:
    x, y, extent, angle = thing.path[frame]
    pixels = draw_glyph(thing.concept, thing.colour, extent * size, angle, thing.light, mirrored=thing.mirrored)
    left, top = x * size - pixels.shape[1] / 2 - right, y * size - pixels.shape[0] / 2 - down
    return Sprite(thing.concept, thing.colour, pixels, round(left), round(top))


# Stories: who is there, and where everybody goes.


def _choose(rng: np.random.Generator, near: Concept | None = None) -> tuple[Concept, str | None]:
    """A concept, now and then of the family of another, and its tint."""
    known = concepts()
    if near is not None and rng.random() < 0.3:
        known = tuple(concept for concept in known if concept.family == near.family)
    concept = known[rng.integers(len(known))]
    names = tuple(COLOURS)
    return concept, names[rng.integers(len(names))] if concept.tintable and rng.random() < 0.75 else None


def _thing(rng: np.random.Generator, what: tuple[Concept, str | None], path: Path, start: int = 0) -> Thing:
    light, mirrored = float(rng.uniform(0.78, 1.12)), bool(rng.random() < 0.5)
    return Thing(*what, path, light, mirrored, start, len(path))


def _sway(rng: np.random.Generator, frames: int, most: float) -> npt.NDArray[np.float64]:
    """A slow wave [frames] of a random height below `most`; half of the time none."""
    if rng.random() < 0.5:
        return np.zeros(frames)
    turns = rng.uniform(0.3, 1.2) * min(1.0, 20 / frames) * max(1, frames // 40)
    return rng.uniform(0, most) * np.sin(np.linspace(0, 2 * np.pi * turns, frames) + rng.uniform(0, 2 * np.pi))


def _moving(rng: np.random.Generator, where: npt.NDArray[np.float64], extent: float) -> Path:
    """A path through places [T, 2] of something that grows, shrinks and turns on its way."""
    frames = len(where)
    sizes = extent * np.exp(_sway(rng, frames, 0.3))
    angles = np.radians(np.clip(rng.normal(0, 12) + np.degrees(_sway(rng, frames, 0.4)), -45, 45))
    return np.column_stack([where, sizes, angles])


def _wander(rng: np.random.Generator, frames: int, begin: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places [T, 2] of something that wanders, and turns back at the border."""
    speed, heading = rng.uniform(0.1, 1) * SPEED, rng.uniform(0, 2 * np.pi)
    where = np.empty((frames, 2))
    where[0] = begin
    for frame in range(1, frames):
        heading += rng.normal(0, 0.2)
        step = speed * np.array([math.cos(heading), math.sin(heading)])
        outside = (where[frame - 1] + step < 0.1) | (where[frame - 1] + step > 0.9)
        step = np.where(outside, -step, step)
        heading = math.atan2(step[1], step[0])
        where[frame] = where[frame - 1] + step
    return where


def _straight(rng: np.random.Generator, begin: npt.ArrayLike, end: npt.ArrayLike, frames: int) -> Path:
    """Places [T, 2] from one place to another, at a nearly even pace."""
    share = np.linspace(0, 1, frames)[:, None]
    even = np.asarray(begin) * (1 - share) + np.asarray(end) * share
    return even + np.column_stack([_sway(rng, frames, 0.02), _sway(rng, frames, 0.02)])


def _wanderers(
    rng: np.random.Generator, count: int, frames: int, taken: list[Thing], *, kinds: bool = False, start: int = 0
) -> list[Thing]:
    """More things that wander, each begun apart from the others; with `kinds` none of a concept that is there."""
    found: list[Thing] = []
    for _ in range(count):
        near = (taken + found)[0].concept if taken + found else None
        what = _choose(rng, near)
        if not kinds and found and rng.random() < 0.25:
            what = (found[0].concept, found[0].colour)
        extent = math.exp(rng.uniform(math.log(0.16), math.log(0.42)))
        for _ in range(_TRIES):
            begin = rng.uniform(0.12, 0.88, 2)
            others = [one.path[start] for one in taken + found]
            if all(np.hypot(*(begin - one[:2])) > 0.5 * (extent + one[2]) for one in others):
                path = np.vstack([np.zeros((start, 4)), _moving(rng, _wander(rng, frames - start, begin), extent)])
                if not (kinds and any(one.concept.family == what[0].family for one in taken + found)):
                    found.append(_thing(rng, what, path, start))
                break
    return found


def _ordinary(rng: np.random.Generator, frames: int) -> list[Thing]:
    things: list[Thing] = []
    while not things:
        things = _wanderers(rng, int(rng.integers(1, MOST + 1)), frames, [])
    return things


def _crossing(rng: np.random.Generator, frames: int) -> list[Thing]:
    what, extent = _choose(rng), rng.uniform(0.18, 0.34)
    angle, apart = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25) * extent
    along = np.array([math.cos(angle), math.sin(angle)])
    aside = np.array([-along[1], along[0]]) * apart / 2
    twins = []
    for side in (1, -1):
        reach = rng.uniform(0.3, 0.38)
        begin, end = 0.5 + side * (reach * along + aside), 0.5 - side * (reach * along - aside)
        twins.append(_thing(rng, what, _moving(rng, _straight(rng, begin, end, frames), extent)))
    return [*_wanderers(rng, int(rng.integers(0, MOST - 1)), frames, twins, kinds=True), *twins]


def _hidden(rng: np.random.Generator, frames: int) -> list[Thing]:
    angle, extent = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.22)
    along = np.array([math.cos(angle), math.sin(angle)])
    middle = rng.uniform(0.42, 0.58, 2)
    star = _thing(
        rng, _choose(rng), _moving(rng, _straight(rng, middle - 0.4 * along, middle + 0.4 * along, frames), extent)
    )
    drift = _straight(rng, middle, middle + rng.uniform(-0.04, 0.04, 2), frames)
    screen = _thing(rng, _choose(rng), _moving(rng, drift, rng.uniform(0.45, 0.62)))
    if star.concept.family == screen.concept.family:
        return _hidden(rng, frames)
    return [star, *_wanderers(rng, int(rng.integers(0, MOST - 2)), frames, [star, screen], kinds=True), screen]


def _returning(rng: np.random.Generator, frames: int) -> list[Thing]:
    extent = rng.uniform(0.18, 0.34)
    leaves, returns = round(frames * rng.uniform(0.3, 0.4)), round(frames * rng.uniform(0.55, 0.65))
    axis, far = int(rng.integers(2)), bool(rng.random() < 0.5)
    outside = 1 + 0.75 * extent if far else -0.75 * extent
    places = rng.uniform(0.25, 0.75, (4, 2))
    places[1:3, axis] = outside
    places[1, 1 - axis] = np.clip(places[0, 1 - axis] + rng.uniform(-0.2, 0.2), 0.2, 0.8)
    places[2, 1 - axis] = np.clip(places[1, 1 - axis] + rng.uniform(-0.2, 0.2), 0.2, 0.8)
    legs = [
        (places[0], places[1], leaves),
        (places[1], places[2], returns - leaves),
        (places[2], places[3], frames - returns),
    ]
    where = np.vstack([_straight(rng, begin, end, count) for begin, end, count in legs])
    star = _thing(rng, _choose(rng), _moving(rng, where, extent))
    return [star, *_wanderers(rng, int(rng.integers(1, MOST)), frames, [star], kinds=True)]


def _cut(rng: np.random.Generator, frames: int) -> list[Thing]:
    at = round(frames * rng.uniform(0.4, 0.6))
    before = [replace(one, stop=at) for one in _ordinary(rng, frames)]
    after: list[Thing] = []
    while not after:
        after = _wanderers(rng, int(rng.integers(1, MOST + 1)), frames, [], start=at)
    if rng.random() < 0.5:  # the same kind of thing, but another one
        after[0] = replace(after[0], concept=before[0].concept, colour=before[0].colour)
    return [*before, *after]


def _changing(rng: np.random.Generator, frames: int) -> list[Thing]:
    what = _choose(rng)
    if rng.random() < 0.5:
        begin, end = rng.uniform(0.25, 0.75, 2), rng.uniform(0.25, 0.75, 2)
        axis, low = int(rng.integers(2)), rng.uniform(0.15, 0.25)
        begin[axis], end[axis] = (low, 1 - low) if rng.random() < 0.5 else (1 - low, low)
        path = _moving(rng, _straight(rng, begin, end, frames), rng.uniform(0.18, 0.32))
    else:
        path = _moving(rng, _wander(rng, frames, rng.uniform(0.35, 0.65, 2)), 1)
        ends = (0.8 * SMALL, 1.2 * LARGE)
        path[:, 2] = np.geomspace(*(ends if rng.random() < 0.5 else ends[::-1]), frames)
    star = _thing(rng, what, path)
    return [star, *_wanderers(rng, int(rng.integers(1, MOST)), frames, [star], kinds=True)]


_STORIES: dict[Plot, Callable[[np.random.Generator, int], list[Thing]]] = {
    "ordinary": _ordinary,
    "crossing": _crossing,
    "hidden": _hidden,
    "returning": _returning,
    "shaky": _ordinary,
    "cut": _cut,
    "changing": _changing,
}


# Phrases: two that are true of something, where there are two, and one that is not.


def _phrases(
    rng: np.random.Generator, plot: Plot, things: list[Thing], frames: int, split: Split
) -> tuple[ClipPhrase, ...] | None:
    """The phrases of a clip; None if none can be said of the one that the plot is about."""
    nothing = np.zeros((1, 1), dtype=np.bool_)
    cast = tuple(Instance(one.concept, one.colour, nothing, (0, 0, 1, 1), 0.3) for one in things)
    scene = Scene(np.zeros((1, 1, 3), dtype=np.uint8), cast)
    star = len(things) - 1 if plot == "crossing" else 0
    others = [index for index in range(len(things)) if index != star]
    found: dict[Query, ClipPhrase] = {}
    for index in [star, *rng.permutation(others).tolist()]:
        query = _query(rng, scene, index, split)
        if query is None and index == star:
            return None
        if query is not None and query not in found:
            indices = named(scene, query) or ()
            names = np.zeros((len(things), frames), dtype=np.bool_)
            names[list(indices)] = True
            found[query] = ClipPhrase(say(query, rng, several=len(indices) > 1), "present", names)
        if len(found) == 2:
            break
    if plot == "changing":
        query = next(iter(found))
        if found[query].names[:, 0].sum() != 1:
            return None
        changed, names = _change(query, things[star], found[query].names)
        found = {
            changed: ClipPhrase(say(changed, rng, several=False), "present", names),
            **dict(list(found.items())[1:]),
        }
    for _ in range(_TRIES):
        phrase = negative(scene, rng, split, hard=bool(rng.random() < 1 / 3))
        if phrase is not None and phrase.query.place is None and phrase.query.size is None:
            absent = ClipPhrase(phrase.text, phrase.kind, np.zeros((len(things), frames), dtype=np.bool_))
            return (*found.values(), absent)
    return None


def _query(rng: np.random.Generator, scene: Scene, index: int, split: Split) -> Query | None:
    """A noun of a thing, perhaps with its colour, of which everybody can say what it names; or None."""
    one = scene.instances[index]
    for _ in range(_TRIES):
        nouns = [
            noun
            for noun in (one.concept.names[0], *one.concept.nouns)
            if split != "train" or noun not in held_out_nouns()
        ]
        query = Query(nouns[rng.integers(len(nouns))], colour=one.colour if rng.random() < 0.5 else None)
        if is_true(one, query) and named(scene, query):
            return query
    return None


def _change(query: Query, thing: Thing, names: npt.NDArray[np.bool_]) -> tuple[Query, npt.NDArray[np.bool_]]:
    """The query with the place or size that is true of its thing at first, and where (bound: half way)."""
    first, last = thing.path[0], thing.path[-1]
    axis = int(np.argmax(np.abs(last[:2] - first[:2])))
    if min(first[2], last[2]) < SMALL and max(first[2], last[2]) > LARGE:
        small = bool(first[2] < last[2])
        true = (thing.path[:, 2] < (SMALL + LARGE) / 2) == small
        return Query(query.noun, query.colour, size="small" if small else "large"), names & true
    low = bool(first[axis] < 0.5)
    place = (("left", "top") if low else ("right", "bottom"))[axis]
    return Query(query.noun, query.colour, place=place), names & ((thing.path[:, axis] < 0.5) == low)  # type: ignore[arg-type]
