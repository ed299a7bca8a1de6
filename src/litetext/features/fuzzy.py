"""Which of very many phrases are spelt most alike: all of them by pairs of letters, the best few letter by letter."""

from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 17  # bytes of text that are looked at at once: some ten arrays of that size fit into the cache
_APART = (1, 2)
_SHORTLIST = 64
_MOST_LETTERS = 200  # of a phrase that are compared letter by letter; the time grows with their square

Text = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def nearest_phrases(asked: bytes, text: Text, offsets: Offsets, count: int) -> list[bytes]:
    """At most ``count`` phrases, the most alike first, none of them half as alike as that; of equals the first.

    Args:
        asked: a phrase in UTF-8, cleaned as the others are.
        text: uint8, N phrases one after another.
        offsets: int64 [N + 1], where each begins and the next ends.
        count: how many.

    Raises:
        ValueError: the offsets do not part the text.
    """
    best: list[tuple[float, int]] = []
    pairs = _pairs_of(asked)
    first, phrases = 0, len(offsets) - 1
    while first < phrases:
        full = int(offsets.searchsorted(offsets[first] + _CHUNK, side="right")) - 1
        stop = min(phrases, max(first + 1, full))
        scores = _share_of_pairs(text, offsets[first : stop + 1], pairs, len(asked))
        top = np.argsort(-scores, kind="stable")[:_SHORTLIST]
        best = sorted([*best, *((-float(scores[one]), first + int(one)) for one in top)])[:_SHORTLIST]
        first = stop
    texts = [
        text[offsets[number] : offsets[number + 1]].tobytes() for _, number in sorted(best, key=lambda one: one[1])
    ]
    ranked = sorted(((_likeness(asked, phrase), phrase) for phrase in texts), key=lambda one: -one[0])
    return [phrase for likeness, phrase in ranked[:count] if likeness >= ranked[0][0] / 2]


def _pairs_of(phrase: bytes) -> npt.NDArray[np.int8]:
    """int8 [65536], 1 for each pair of bytes that stand side by side in the phrase, or with one between them.

    Both kinds in one set: swapped letters ("dgo") have pairs in common with what was meant.
    """
    letters = np.frombuffer(phrase, np.uint8).astype(np.uint16)
    pairs = np.zeros(1 << 16, np.int8)
    for apart in _APART:
        pairs[letters[:-apart] << 8 | letters[apart:]] = 1
    return pairs


def _share_of_pairs(text: Text, offsets: Offsets, pairs: npt.NDArray[np.int8], length: int) -> npt.NDArray[np.float64]:
    """Dice's coefficient of pairs of bytes with the phrase asked, for each phrase between the offsets."""
    if not 0 <= offsets[0] <= offsets[-1] <= len(text) or np.diff(offsets).min() < 0:
        raise ValueError("offsets that do not part the text")
    letters = text[offsets[0] : offsets[-1]].astype(np.uint16)
    ends = offsets - offsets[0]
    hits = np.zeros(len(letters) + 1, np.int8)  # at i + 1, those pairs that begin at byte i
    high = letters << 8
    for apart in _APART:
        found = pairs[high[:-apart] | letters[apart:]]
        for back in range(apart):  # a pair of two phrases is none
            within = ends[(ends > back) & (ends - back <= len(found))] - back - 1
            found[within] = 0
        hits[1 : len(found) + 1] += found
    sums = np.cumsum(hits, dtype=np.int32)
    shared = sums[ends[1:]] - sums[ends[:-1]]
    most = len(_APART) * (length + np.diff(ends)) / 2
    scores: npt.NDArray[np.float64] = shared / np.maximum(most, 1)
    return scores


def _likeness(asked: bytes, phrase: bytes) -> float:
    one, other = (some[: 4 * _MOST_LETTERS].decode("utf-8", "replace")[:_MOST_LETTERS] for some in (asked, phrase))
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
