"""Phrases that name nothing of the micro world: what people ask of real pictures, less everything the glyphs show."""

import re
import zlib
from functools import cache

from litetext.micro.concepts import concepts, pluralise
from litetext.micro.glyphs import COLOURS
from litetext.micro.scenes import Split
from litetext.prompts.bundled import bundled_corpus

_TEST_SHARE = 0.2
_MOST_WORDS = 6
_LINKS = frozenset({"a", "and", "in", "of", "on", "the", "to", "up", "with"})  # of a glyph's name, but not its own


@cache
def strangers(split: Split) -> tuple[str, ...]:
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
