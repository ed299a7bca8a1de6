"""Words of a phrase: which carry content and may change places, which hold it together, which relate two things."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import dropwhile

import numpy as np

from litetext.tokenizer.clean import clean

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

BINDING_WORDS = FUNCTION_WORDS - frozenset(ARTICLES.split()) - {"can"}
"""Words that say what belongs to what; "can" is a noun in prompts ("trash can")."""

_VERBS = (
    "holding holds wearing wears carrying carries riding rides pulling pulls pushing pushes touching touches using "
    "uses eating eats drinking drinks reading reads throwing throws kicking kicks hitting hits catching catches "
    "chasing chases leading leads feeding feeds hugging hugs kissing kisses watching watches covering covers "
    "surrounding surrounds containing contains crossing crosses following follows"
)
TRANSITIVE_VERBS = frozenset(_VERBS.split())
"""Verbs that bind the words before them to those after them: as the first or last content word ("drinking glass",
"zebra crossing") they bind nothing."""

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
    """At most ``limit`` other orders of the content words of a phrase; everything else stays in its place.

    No two are equal, and every order is equally likely; where no more than ``limit`` exist, all come. The phrase is as
    `split_words` gives it.
    """
    places = content_positions(words)
    given = tuple(words[place] for place in places)
    wanted = min(limit, arrangements(given) - 1)
    found: dict[tuple[str, ...], None] = {}
    while len(found) < wanted:
        order = tuple(given[index] for index in generator.permutation(len(given)))
        if order != given:
            found[order] = None
    changes = (dict(zip(places, order, strict=True)) for order in found)
    return [[change.get(place, word) for place, word in enumerate(words)] for change in changes]


def permute(text: str, generator: np.random.Generator) -> str | None:
    """A phrase with its content words in another order, where that leaves the meaning as it is.

    For the consistency loss: the student shall say of "car red" what it says of "red car", but not of "car left of dog"
    what it says of "dog left of car". The tokens are never those of the given phrase. That the order of a compound
    matters ("house boat") cannot be seen in its words. The result is cleaned as the tokenizer does it, its items joined
    by single spaces; None: the phrase is exempt, or its content words have no other order.
    """
    words = split_words(clean(text))
    content = [words[place] for place in content_positions(words)]
    if arrangements(content) == 1 or is_bound(words):
        return None
    return " ".join(permute_content(words, generator, limit=1)[0])


def is_bound(words: Sequence[str]) -> bool:
    """Whether a phrase (in lower case, as `split_words` gives it) is exempt: its order says what belongs to what.

    So it is with a relation such as "left of", a binding word, a verb between a subject and an object, a possessive
    ("dog's"), punctuation before the last word, and two words with digits ("car 2 row 3").
    """
    inner = list(dropwhile(lambda item: not is_word(item), reversed(words)))
    content = [words[place] for place in content_positions(words)]
    numbers = sum(any(character.isnumeric() for character in word) for word in words)
    return (
        bool(relation_positions(words))
        or any(word in BINDING_WORDS or not is_word(word) or _is_possessive(word) for word in inner)
        or not TRANSITIVE_VERBS.isdisjoint(content[1:-1])
        or numbers > 1
    )


def _is_possessive(word: str) -> bool:
    return word.replace("’", "'").endswith(("'s", "s'"))
