"""CLIP's tokenizer in files: a `tokenizer.json`, which the `tokenizers` library reads in any language; bare merges."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors

from litetext.errors import OptionError
from litetext.tokenizer.bpe import clip_bpe
from litetext.tokenizer.vocabulary import (
    BYTE_TOKENS,
    END_ID,
    END_TEXT,
    START_ID,
    START_TEXT,
    VOCABULARY_SIZE,
    byte_alphabet,
    clip_vocabulary,
)

# As in `bpe`, in the syntax of the library; a literal special token in a text is a text here.
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def portable_tokenizer(kept: Iterable[int] | None = None) -> str:
    """The text of a `tokenizer.json` with CLIP's ids; start and end token are added, nothing is padded or cut off.

    It gives what `ClipTokenizer` gives for any text that needs no fixing by ftfy and has no HTML entities.

    Args:
        kept: ids of the tokens that there are, closed under merges; None for all.
    """
    whole = Tokenizer(clip_bpe(kept))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    whole.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
    whole.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    whole.post_processor = processors.TemplateProcessing(
        single=f"{START_TEXT} $A {END_TEXT}", special_tokens=[(START_TEXT, START_ID), (END_TEXT, END_ID)]
    )
    return whole.to_str()


def kept_merges(kept: Iterable[int] | None = None) -> npt.NDArray[np.uint16]:
    """CLIP's merges as uint16 [M, 3]: two ids, and the id that they become.

    Args:
        kept: ids of the tokens that there are, closed under merges; None for all.
    """
    vocabulary = clip_vocabulary()
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    results = range(BYTE_TOKENS, START_ID) if kept is None else [one for one in kept if BYTE_TOKENS <= one < START_ID]
    parts = [(*(ids[part] for part in vocabulary.merges[result - BYTE_TOKENS]), result) for result in results]
    return np.array(parts, dtype=np.uint16).reshape(-1, 3)


class SmallMerges:
    """CLIP's byte-pair encoding of one word after another, for processes that have little memory.

    The library and Python's dictionaries take 5 MB for 10,000 tokens, two sorted arrays 60 KB.

    Args:
        merges: as `kept_merges` gives them; of two pairs that with the lower result is merged first.

    Raises:
        OptionError: not that.
    """

    def __init__(self, merges: npt.NDArray[np.uint16]) -> None:
        if merges.dtype != np.uint16 or merges.ndim != 2 or merges.shape[1] != 3:
            raise OptionError(f"merges are {merges.dtype} {list(merges.shape)}, not uint16 [M, 3]")
        pairs = merges[:, 0].astype(np.uint32) << 16 | merges[:, 1]
        order = np.argsort(pairs)
        self._pairs = array("I", pairs[order].tobytes())
        self._results = array("H", merges[order, 2].tobytes())
        self._bytes = {character: rank for rank, character in enumerate(byte_alphabet().values())}

    def __call__(self, word: str) -> list[int]:
        """Ids of a word that is spelled in the characters of the vocabulary."""
        ids = [self._bytes[character] for character in word]
        if not ids:
            return ids
        ids[-1] += BYTE_TOKENS // 2  # the byte that ends a word
        results = [self._result(left, right) for left, right in pairwise(ids)]
        while results and (best := min(results)) < VOCABULARY_SIZE:
            # From the left, as long as the best pair is there; its neighbors have new partners then.
            place = results.index(best)
            ids[place : place + 2] = [best]
            del results[place]
            if place:
                results[place - 1] = self._result(ids[place - 1], best)
            if place < len(results):
                results[place] = self._result(best, ids[place + 1])
        return ids

    def _result(self, left: int, right: int) -> int:
        """The id that a pair becomes; one beyond all ids if it is none."""
        pair, pairs = left << 16 | right, self._pairs
        place = bisect_left(pairs, pair)
        return self._results[place] if place < len(pairs) and pairs[place] == pair else VOCABULARY_SIZE
