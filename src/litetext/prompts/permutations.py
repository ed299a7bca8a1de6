"""Permute: a phrase with its content words in another order, where that leaves the meaning as it is.

For the consistency loss: the student shall say of "car red" what it says of "red car", but not of "car left of dog"
what it says of "dog left of car". So a phrase in which any word relates two things is exempt as a whole.
"""

from collections.abc import Sequence
from itertools import dropwhile

import numpy as np

from litetext.prompts.words import (
    AUXILIARIES,
    CONJUNCTIONS,
    PREPOSITIONS,
    PRONOUNS,
    arrangements,
    content_positions,
    is_word,
    permute_content,
    relation_positions,
    split_words,
)
from litetext.tokenizer.clean import clean

NOUNS = "can"  # among the auxiliaries, but in prompts as in "trash can"
BINDING_WORDS = frozenset(" ".join((PREPOSITIONS, CONJUNCTIONS, PRONOUNS, AUXILIARIES)).split()) - {NOUNS}
"""Words that say what belongs to what: all function words but the articles."""

VERBS = (
    "holding holds wearing wears carrying carries riding rides pulling pulls pushing pushes touching touches using "
    "uses eating eats drinking drinks reading reads throwing throws kicking kicks hitting hits catching catches "
    "chasing chases leading leads feeding feeds hugging hugs kissing kisses watching watches covering covers "
    "surrounding surrounds containing contains crossing crosses following follows"
)
TRANSITIVE_VERBS = frozenset(VERBS.split())
"""Verbs that bind the words before them to those after them: as the first or last content word ("drinking glass",
"zebra crossing") they bind nothing."""


def permute(text: str, generator: np.random.Generator) -> str | None:
    """A phrase with its content words in another order: all else, as the articles, keeps its place.

    Every order but the given one is equally likely, equal words are not told apart, and the tokens are never those of
    the given phrase. That the order of a compound matters ("house boat") cannot be seen in its words.

    Args:
        text: a phrase.
        generator: source of randomness.

    Returns:
        The phrase, cleaned as the tokenizer cleans it, its items parted by single spaces; None if it is exempt, or its
        content words have no other order.
    """
    words = split_words(clean(text))
    if not is_permutable(words):
        return None
    return " ".join(permute_content(words, generator, limit=1)[0])


def is_permutable(words: Sequence[str]) -> bool:
    """Whether the content words of a phrase have another order, and it may have it.

    Args:
        words: the phrase in lower case, as `split_words` gives it.
    """
    return arrangements([words[place] for place in content_positions(words)]) > 1 and not is_bound(words)


def is_bound(words: Sequence[str]) -> bool:
    """Whether a phrase is exempt: its order says what belongs to what.

    So it is with a relation such as "left of", a binding word, a verb between a subject and an object, a possessive
    ("dog's"), punctuation before the last word, and two words with digits ("car 2 row 3").

    Args:
        words: the phrase in lower case, as `split_words` gives it.
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
