"""Words of a phrase: which carry content and may change places, which hold it together, which relate two things."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = "a an the this that these those some any each every"
PREPOSITIONS = (
    "of in on at to from by with without for into onto over under above below behind beside beneath underneath between "
    "among near inside outside within through across along around against towards toward upon off out up down via"
)
CONJUNCTIONS = "and or but nor not no as than then so while where when which who whom whose"
PRONOUNS = "i you he she it we they me him her us them my your his its our their one's"
AUXILIARIES = "is are was were be been being am has have had does do did can could will would"
FUNCTION_WORDS = frozenset(" ".join((ARTICLES, PREPOSITIONS, CONJUNCTIONS, PRONOUNS, AUXILIARIES)).split())
"""English words that hold a phrase together; every other word is content."""

RELATIONS = frozenset(
    tuple(relation.split())
    for relation in (
        *("left of", "right of", "left side of", "right side of", "on top of", "in front of", "front of", "in back of"),
        *("next to", "close to", "closest to", "nearest to", "adjacent to", "away from", "far from", "opposite"),
        *("above", "over", "below", "under", "beneath", "underneath", "behind", "beside", "between", "near", "facing"),
        *("inside", "inside of", "outside", "outside of"),
    )
)
"""Words that say where one thing is with regard to another, so that swapping the two things changes the meaning.

"in", "on", "at", "from", "with" and "of" are not among them: in prompts they seldom relate two things ("woman in blue",
"2nd from left", "man on left").
"""

_LONGEST_RELATION = max(map(len, RELATIONS))
_MARKS = re.compile(r"""([,;:!?()\[\]{}"“”]+|\.+(?=\s|$))""")


def split_words(text: str) -> list[str]:
    """Words of a text at its white space, with the punctuation between them as items of its own ("man" "," "left")."""
    return _MARKS.sub(r" \1 ", text).split()


def is_word(item: str) -> bool:
    """Whether an item of `split_words` is a word or a number, not punctuation."""
    return any(character.isalnum() for character in item)


def relation_positions(words: Sequence[str]) -> list[int]:
    """Positions of the words that belong to a relation, ascending; of two that overlap the longer and earlier one."""
    lowered = [word.lower() for word in words]
    positions: list[int] = []
    start = 0
    while start < len(lowered):
        lengths = range(min(_LONGEST_RELATION, len(lowered) - start), 0, -1)
        length = next((n for n in lengths if tuple(lowered[start : start + n]) in RELATIONS), 0)
        positions.extend(range(start, start + length))
        start += length or 1
    return positions


def content_positions(words: Sequence[str]) -> list[int]:
    """Positions of the content words, ascending: no function word, no punctuation, no part of a relation."""
    related = set(relation_positions(words))
    return [
        position
        for position, word in enumerate(words)
        if position not in related and is_word(word) and word.lower() not in FUNCTION_WORDS
    ]


def arrangements(content: Sequence[str]) -> int:
    """Number of different orders of some words, the given one counted; equal words are not told apart."""
    repeats = math.prod(math.factorial(count) for count in Counter(content).values())
    return math.factorial(len(content)) // repeats


def permute_content(words: Sequence[str], generator: np.random.Generator, limit: int) -> list[list[str]]:
    """Different orders of the content words of a phrase; everything else stays in its place.

    None of them equals the phrase, and no two are equal. Every order is equally likely; where no more than ``limit``
    exist, all come.

    Args:
        words: the phrase, as `split_words` gives it.
        generator: source of randomness.
        limit: the most orders wanted.

    Returns:
        At most ``limit`` phrases as long as ``words``; none where no order differs from the given one.
    """
    places = content_positions(words)
    given = tuple(words[place] for place in places)
    wanted = min(limit, arrangements(given) - 1)
    found: dict[tuple[str, ...], None] = {}
    while len(found) < wanted:
        order = tuple(given[index] for index in generator.permutation(len(given)))
        if order != given:
            found[order] = None
    return [_with_words_at(words, places, order) for order in found]


def _with_words_at(words: Sequence[str], places: Sequence[int], new: Sequence[str]) -> list[str]:
    changed = list(words)
    for place, word in zip(places, new, strict=True):
        changed[place] = word
    return changed
