"""Phrases about a scene and which instances each of them names; phrases about nothing; a corpus of phrases.

A phrase names all the instances for which it is true and no others. Where that cannot be decided (a rat and the word
"mouse", the colour of an untinted car, a thing neither left nor right) the answer is None and the phrase is not used.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar, get_args

import numpy as np

from litetext.errors import OptionError
from litetext.micro.concepts import (
    Concept,
    concepts,
    held_out_nouns,
    invariable_nouns,
    pluralise,
    spoken_nouns,
    with_article,
)
from litetext.micro.glyphs import COLOURS
from litetext.micro.scenes import CORPUS_STREAM, Instance, Scene, SceneOptions, Split, generator, make_scene
from litetext.prompts.corpus import bundled_corpus

_T = TypeVar("_T")
Kind = Literal["present", "absent", "hard"]
Size = Literal["small", "large"]
Place = Literal["left", "right", "top", "bottom"]
SIZES: tuple[Size, ...] = get_args(Size)
PLACES: tuple[Place, ...] = get_args(Place)
# Between these bounds nobody can say: a share of the picture's side.
SMALL, LARGE = 0.22, 0.36
NEAR, FAR = 0.42, 0.58
MOST_WORDS = 10
# Of each six pairs: half absent, a third of those hard.
_KINDS: tuple[Kind, ...] = ("present", "present", "present", "absent", "absent", "hard")
_TRIES = 40
_WHERE: dict[Place, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "on the left side of the picture", "at the left"),
    "right": ("on the right", "on the right side", "on the right side of the picture", "at the right"),
    "top": ("at the top", "in the upper half", "at the top of the picture"),
    "bottom": ("at the bottom", "in the lower half", "at the bottom of the picture"),
}


@dataclass(frozen=True)
class Query:
    """What a phrase asks for, before it is put into words; what is None is not asked."""

    noun: str
    colour: str | None = None
    size: Size | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Phrase:
    """A phrase about one scene.

    Attributes:
        text: its words, 1 to 10.
        query: what they mean.
        indices: the instances that it names; empty if it is absent.
        kind: present; absent; or hard: absent, but the noun with another attribute or one of its family is there.
        held_out: training never shows its noun.
    """

    text: str
    query: Query
    indices: tuple[int, ...]
    kind: Kind
    held_out: bool


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture and a phrase; `picture` numbers the scenes of a world from 0."""

    picture: int
    scene: Scene
    phrase: Phrase


def is_true(instance: Instance, query: Query) -> bool | None:
    """Whether a query is true of an instance; None if nobody can say. What is false in one point is false."""
    answers = [is_called(instance.concept, query.noun)]
    if query.colour is not None:
        answers.append(None if instance.colour is None else instance.colour == query.colour)
    if query.size is not None:
        size = _size_of(instance)
        answers.append(None if size is None else size == query.size)
    if query.place is not None:
        answers.append(_is_at(instance, query.place))
    if False in answers:
        return False
    return None if None in answers else True


def named(scene: Scene, query: Query) -> tuple[int, ...] | None:
    """The instances that a query names, in their order; None if that cannot be said of all."""
    answers = [is_true(instance, query) for instance in scene.instances]
    return None if None in answers else tuple(index for index, answer in enumerate(answers) if answer)


def is_called(concept: Concept, noun: str) -> bool | None:
    """Whether a noun is true of a concept; None if some would say so and some would not."""
    if noun in concept.nouns:
        return True
    return None if noun in concept.vague else False


def _size_of(instance: Instance) -> Size | None:
    if instance.extent <= SMALL:
        return "small"
    return "large" if instance.extent >= LARGE else None


def _is_at(instance: Instance, place: Place) -> bool | None:
    x, y = instance.centre
    along = {"left": 1 - x, "right": x, "top": 1 - y, "bottom": y}[place]
    if along >= FAR:
        return True
    return False if along <= NEAR else None


def say(query: Query, rng: np.random.Generator, *, several: bool) -> str:
    """Put a query into at most 10 words, with or without an article; if `several`, perhaps in the plural."""
    plural = several and query.noun not in invariable_nouns() and rng.random() < 0.5
    noun = pluralise(query.noun) if plural else query.noun
    fixed = plural or query.noun in invariable_nouns()
    article = rng.choice(("", "", "", "the", "the", "a" if not fixed else ""))
    clause = query.colour is not None and query.noun not in invariable_nouns() and rng.random() < 0.15
    where = "" if query.place is None else str(rng.choice(_WHERE[query.place]))
    text = _join(query, noun, article, f"that {'are' if plural else 'is'} {query.colour}" if clause else "", where)
    if len(text.split()) <= MOST_WORDS:
        return text
    return _join(query, noun, article, "", "" if query.place is None else _WHERE[query.place][0])


def _join(query: Query, noun: str, article: str, clause: str, where: str) -> str:
    """The words in their order; a clause says the colour instead of the adjective."""
    words = " ".join(word for word in (query.size, None if clause else query.colour, noun) if word)
    words = with_article(words) if article == "a" else f"{article} {words}"
    return " ".join(f"{words} {clause} {where}".split())


def phrases_of(scene: Scene, rng: np.random.Generator, split: Split = "train") -> dict[str, tuple[int, ...]]:
    """Each noun and each coloured noun that is true of something in a scene, with the instances that it names."""
    found: dict[str, tuple[int, ...]] = {}
    for instance in scene.instances:
        for noun in _spoken(instance.concept.nouns, split):
            for query in dict.fromkeys((Query(noun), Query(noun, colour=instance.colour))):
                indices = named(scene, query)
                if indices:
                    found.setdefault(say(query, rng, several=len(indices) > 1), indices)
    return found


def positive(scene: Scene, rng: np.random.Generator, split: Split = "train") -> Phrase | None:
    """A random phrase that names something in the scene, or None if none was found."""
    for _ in range(_TRIES):
        instance = _pick_instance(scene, rng)
        query = _describe(instance, _pick_noun(instance, rng, split), rng)
        indices = named(scene, query)
        if indices:
            return _phrase(query, indices, "present", rng)
    return None


def negative(scene: Scene, rng: np.random.Generator, split: Split = "train", *, hard: bool = False) -> Phrase | None:
    """A random phrase that names nothing in the scene, or None if none was found.

    A hard one has its noun there with another colour, size or place, or something of the noun's family; otherwise
    nothing of its family is there. The split "train" leaves the held-out nouns alone.
    """
    families = {instance.concept.family for instance in scene.instances}
    for _ in range(_TRIES):
        query = _nearly(scene, rng, split) if hard else _elsewhere(families, rng, split)
        if named(scene, query) == () and (hard or named(scene, Query(query.noun)) == ()):
            return _phrase(query, (), "hard" if hard else "absent", rng)
    return None


def speak(rng: np.random.Generator) -> str:
    """A random phrase about the world, of any picture or none, without the held-out nouns."""
    return say(_elsewhere(set(), rng, "train"), rng, several=rng.random() < 0.4)


def _nearly(scene: Scene, rng: np.random.Generator, split: Split) -> Query:
    """Something there with one attribute changed, or a relative of it; it may be true, which the caller checks."""
    instance = _pick_instance(scene, rng)
    if rng.random() < 0.4:
        relatives = [other for other in concepts() if other.family == instance.concept.family]
        names = _spoken(relatives[rng.integers(len(relatives))].names, split)
        return Query(names[rng.integers(len(names))])
    noun = _pick_noun(instance, rng, split)
    if instance.colour is not None and rng.random() < 0.8:
        return Query(noun, colour=_any(tuple(COLOURS), rng))
    return Query(noun, place=_any(PLACES, rng)) if rng.random() < 0.7 else Query(noun, size=_any(SIZES, rng))


def _elsewhere(families: set[str], rng: np.random.Generator, split: Split) -> Query:
    """Any noun of the families that are not there; now and then with an attribute, as the present ones have."""
    known = concepts()
    concept = known[rng.integers(len(known))]
    while concept.family in families:
        concept = known[rng.integers(len(known))]
    names = _spoken(concept.nouns, split)
    colour = _any(tuple(COLOURS), rng) if concept.tintable and rng.random() < 0.35 else None
    size = _any(SIZES, rng) if rng.random() < 0.12 else None
    place = _any(PLACES, rng) if rng.random() < 0.2 else None
    return Query(names[rng.integers(len(names))], colour, size, place)


def _describe(instance: Instance, noun: str, rng: np.random.Generator) -> Query:
    """A query that is true of the instance, as far as anything can be said."""
    places = [place for place in PLACES if _is_at(instance, place)]
    return Query(
        noun,
        colour=instance.colour if rng.random() < 0.6 else None,
        size=_size_of(instance) if rng.random() < 0.15 else None,
        place=places[rng.integers(len(places))] if places and rng.random() < 0.25 else None,
    )


def _pick_instance(scene: Scene, rng: np.random.Generator) -> Instance:
    return scene.instances[rng.integers(len(scene.instances))]


def _pick_noun(instance: Instance, rng: np.random.Generator, split: Split) -> str:
    """One of its nouns; the usual one twice as often."""
    spoken = _spoken((instance.concept.names[0], *instance.concept.nouns), split)
    return spoken[rng.integers(len(spoken))]


def _spoken(words: tuple[str, ...], split: Split) -> tuple[str, ...]:
    """The words that may be said in a split; a usual name is never held out, so that one is always left."""
    return tuple(word for word in words if word not in held_out_nouns()) if split == "train" else words


def _any(values: tuple[_T, ...], rng: np.random.Generator) -> _T:
    return values[rng.integers(len(values))]


def _phrase(query: Query, indices: tuple[int, ...], kind: Kind, rng: np.random.Generator) -> Phrase:
    # An absent phrase stands in the plural about as often as a present one.
    several = len(indices) > 1 if indices else rng.random() < 0.4
    return Phrase(say(query, rng, several=several), query, indices, kind, query.noun in held_out_nouns())


def make_pairs(seed: int, count: int, options: SceneOptions | None = None) -> Iterator[Pair]:
    """The pairs of a world, `options.pairs` of each scene: half absent, a third of those hard (exact in each six).

    Nothing is asked twice about one picture. The same arguments give the same pairs, a smaller count the first of them.
    """
    options = options or SceneOptions()
    order = generator(seed, options.split, 0)
    kinds: list[Kind] = []
    for picture in range(-(-count // options.pairs)):
        while len(kinds) < options.pairs:
            kinds += [_KINDS[index] for index in order.permutation(len(_KINDS))]
        wanted, kinds = kinds[: options.pairs], kinds[options.pairs :]
        scene, phrases = _scene_with(seed, picture, wanted, options)
        for phrase in phrases[: count - picture * options.pairs]:
            yield Pair(picture, scene, phrase)


def _scene_with(seed: int, picture: int, kinds: list[Kind], options: SceneOptions) -> tuple[Scene, list[Phrase]]:
    """The first of the scenes of a picture's number about which every wanted kind of phrase can be said."""
    rng = generator(seed, options.split, picture, 1)
    while True:
        scene = make_scene(int(rng.integers(2**62)), options)
        phrases = _phrases(scene, kinds, rng, options.split)
        if phrases is not None:
            return scene, phrases


def _phrases(scene: Scene, kinds: list[Kind], rng: np.random.Generator, split: Split) -> list[Phrase] | None:
    makers: dict[Kind, Callable[[], Phrase | None]] = {
        "present": lambda: positive(scene, rng, split),
        "absent": lambda: negative(scene, rng, split),
        "hard": lambda: negative(scene, rng, split, hard=True),
    }
    found: list[Phrase] = []
    for kind in kinds:
        for _ in range(_TRIES):
            phrase = makers[kind]()
            if phrase is not None and all(phrase.query != other.query for other in found):
                found.append(phrase)
                break
        else:
            return None
    return found


_TEST_SHARE = 0.2
_MOST_WORDS = 6
_LINKS = frozenset({"a", "and", "in", "of", "on", "the", "to", "up", "with"})  # of a glyph's name, but not its own


@cache
def out_of_domain(split: Split) -> tuple[str, ...]:
    """Phrases of the bundled corpus of which no word is a word of any glyph, in a fixed order.

    A fifth of them, chosen by a checksum of their letters, is kept from training for validation and test.
    """
    taken = _words_of_glyphs()
    kept = []
    for prompt in bundled_corpus():
        words = re.findall(r"[a-z]+", prompt.text.lower())
        if not words or len(words) > _MOST_WORDS or any(word in taken or word.rstrip("s") in taken for word in words):
            continue
        is_test = zlib.crc32(prompt.text.encode()) % 1000 < 1000 * _TEST_SHARE
        if is_test == (split != "train"):
            kept.append(prompt.text)
    return tuple(kept)


@cache
def _words_of_glyphs() -> frozenset[str]:
    """Every word that could be said of a glyph, of any part of its names, and the colours."""
    phrases = [phrase for concept in concepts() for phrase in (concept.cldr, *concept.nouns, *concept.vague)]
    words = {word for phrase in phrases for word in re.findall(r"[a-z]+", phrase.lower())} - _LINKS
    return frozenset(words | {pluralise(word) for word in words} | set(COLOURS))


_STALE = 2000  # phrases in a row that were all there already: the world has no more to say

Progress = Callable[[str, float], None]


def sample_phrases(seed: int, count: int, strange: int | None = None, progress: Progress | None = None) -> list[str]:
    """Different phrases of the training split, in a random order.

    Phrases that name nothing of this world are among them (at most ``strange``; None: a fifth of the count), every
    noun, or a quarter of the count where these are more, and otherwise nouns with and without colours, sizes and
    places, as training asks them. No held-out noun is said. A count below 1, or above what the world has to say, is an
    `OptionError`.
    """
    rng = generator(seed, "train", CORPUS_STREAM)
    if count < 1:
        raise OptionError(f"{count} phrases of the micro world", hint="ask for 1 or more")
    others = rng.permutation(np.array(out_of_domain("train"), dtype=object))
    others = others[: count // 5 if strange is None else strange]
    nouns = list(spoken_nouns())
    if len(nouns) + len(others) > count:
        nouns = [nouns[index] for index in rng.permutation(len(nouns))[: count // 4]]
    found = dict.fromkeys((*nouns, *others.tolist()))
    stale = 0
    while len(found) < count:
        before = len(found)
        found.setdefault(speak(rng))
        stale = 0 if len(found) > before else stale + 1
        if stale == _STALE:
            raise OptionError(f"{count} phrases of the micro world", hint=f"it has about {before}")
        if progress is not None:
            progress("talking", len(found) / count)
    texts = list(found)
    return [texts[index] for index in rng.permutation(len(texts))]
