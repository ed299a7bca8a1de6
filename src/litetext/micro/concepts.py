"""What the glyphs are called: the concepts of the micro world, their true names and the words nobody can be sure of."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Concept:
    """One kind of thing.

    Attributes:
        index: its place in the sheet of glyphs.
        code: the code point in hexadecimal.
        cldr: the short name of CLDR.
        family: concepts of one family look or mean alike; never a phrase.
        tintable: the glyph may be drawn in one of `litetext.micro.glyphs.COLOURS`.
        names: words for this thing, the usual one first.
        groups: words for it and for other things ("car" of a taxi).
        vague: words that some would say and some would not ("mouse" of a rat).
        invariable: those of names and groups without a plural and without "a".
        held_out: those of the names that training never shows.
    """

    index: int
    code: str
    cldr: str
    family: str
    tintable: bool
    names: tuple[str, ...]
    groups: tuple[str, ...]
    vague: tuple[str, ...]
    invariable: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def nouns(self) -> tuple[str, ...]:
        """Every word that is true of the thing."""
        return self.names + self.groups


@cache
def concepts() -> tuple[Concept, ...]:
    """All concepts, in the order of the sheet."""
    text = files("litetext.micro").joinpath("data/glyphs.json").read_text(encoding="utf-8")
    entries = enumerate(json.loads(text)["concepts"])
    return tuple(Concept(index, **{key: _frozen(value) for key, value in entry.items()}) for index, entry in entries)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@cache
def held_out_nouns() -> frozenset[str]:
    """The nouns that training never shows: each is a name of one concept only."""
    return frozenset(noun for concept in concepts() for noun in concept.held_out)


@cache
def spoken_nouns() -> tuple[str, ...]:
    """Every noun of the training split, each once."""
    return tuple(
        dict.fromkeys(noun for concept in concepts() for noun in concept.nouns if noun not in held_out_nouns())
    )


@cache
def invariable_nouns() -> frozenset[str]:
    """The nouns without a plural and without "a"."""
    return frozenset(noun for concept in concepts() for noun in concept.invariable)


_PLURALS = {
    "mouse": "mice",
    "ox": "oxen",
    "wolf": "wolves",
    "leaf": "leaves",
    "loaf": "loaves",
    "scarf": "scarves",
    "die": "dice",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mosquito": "mosquitoes",
    "mango": "mangoes",
    "buffalo": "buffaloes",
}
# Words whose first sound is not what their first letter says.
_TAKES_A, _TAKES_AN = ("ewe", "one-piece", "UFO"), ("hourglass", "SUV")


def pluralise(noun: str) -> str:
    """The plural of a noun that has one: "cups with straw", "boxes", "dice"."""
    for link in (" of ", " with "):
        if link in noun:
            head, rest = noun.split(link, 1)
            return pluralise(head) + link + rest
    before, space, last = noun.rpartition(" ")
    if last in _PLURALS:
        plural = _PLURALS[last]
    elif last.lower().endswith(("s", "x", "ch", "sh")):
        plural = last + "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        plural = last[:-1] + "ies"
    else:
        plural = last + "s"
    return before + space + plural


def with_article(words: str) -> str:
    """The words with "a" or "an" before them."""
    if words.startswith(_TAKES_A):
        return f"a {words}"
    return f"an {words}" if words.startswith(_TAKES_AN) or words[0].lower() in "aeiou" else f"a {words}"
