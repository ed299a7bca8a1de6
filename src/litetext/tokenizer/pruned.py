"""The part of CLIP's vocabulary that a pruned token table has rows for, and its tokenizer for other runtimes."""

import base64
import binascii
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors

from litetext.errors import OptionError
from litetext.tokenizer.bpe import ClipTokenizer, clip_bpe, clip_tokenizer, merge_by
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

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

# As in `bpe`, in the syntax of the library; a literal special token in a text is a text here.
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_WHERE = "the tokens that a pruned table keeps"


@dataclass(frozen=True)
class KeptTokens:
    """Tokens of CLIP that are kept: all bytes, start and end, and each merged token with the two that it is made of.

    Any text still has tokens, and one whose tokens are all kept has the same as before (see `Vocabulary.closure`). Ids
    stay CLIP's; only the rows of a token table are numbered anew, in the order of the ids.
    """

    ids: tuple[int, ...]  # of CLIP, in rising order

    def __post_init__(self) -> None:
        if any(left >= right for left, right in pairwise(self.ids)):
            raise OptionError("ids that do not rise", where=_WHERE)
        if not self.ids or self.ids[0] < 0 or self.ids[-1] >= VOCABULARY_SIZE:
            raise OptionError("ids that are not CLIP's", where=_WHERE)
        missing = len(clip_vocabulary().closure(self.ids)) - len(self.ids)
        if missing:
            raise OptionError(f"{missing} tokens are missing that others are made of", where=_WHERE)

    @classmethod
    def of_texts(cls, texts: Iterable[str], tokenizer: ClipTokenizer | None = None) -> Self:
        """Those that texts need to keep their tokens, which a tokenizer gives them; None: CLIP's."""
        used = np.unique((tokenizer or clip_tokenizer()).encode(texts).ids)
        return cls(tuple(sorted(clip_vocabulary().closure(used.tolist()))))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` gave; `kept_tokens` remembers it."""
        try:
            packed = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise OptionError("not base64", where=_WHERE) from error
        if len(packed) * 8 != VOCABULARY_SIZE:
            raise OptionError(f"{len(packed) * 8:,} bits, not {VOCABULARY_SIZE:,}", where=_WHERE)
        return cls(tuple(np.flatnonzero(np.unpackbits(np.frombuffer(packed, dtype=np.uint8))).tolist()))

    def to_text(self) -> str:
        """A bit for each of CLIP's 49,408 ids, in base64: 8 KB."""
        bits = np.zeros(VOCABULARY_SIZE, dtype=np.bool_)
        bits[list(self.ids)] = True
        return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")

    def __len__(self) -> int:
        """Rows of the pruned table."""
        return len(self.ids)

    @cached_property
    def tokenizer(self) -> ClipTokenizer:
        """CLIP's, without the merges that lead to tokens which are not kept; its ids are CLIP's."""
        return ClipTokenizer(merge_by(clip_bpe(self.ids)))

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """The row of each of CLIP's ids, int64 [49,408]; -1 where there is none."""
        rows = np.full(VOCABULARY_SIZE, -1, dtype=np.int64)
        rows[list(self.ids)] = np.arange(len(self.ids))
        return rows


@lru_cache(maxsize=8)
def kept_tokens(text: str) -> KeptTokens:
    """`KeptTokens.from_text`, remembered: its tokenizer takes a while to build."""
    return KeptTokens.from_text(text)


def portable_tokenizer(kept: Iterable[int] | None = None) -> str:
    """The text of a `tokenizer.json` with CLIP's ids; start and end token are added, nothing is padded or cut off.

    It gives what `ClipTokenizer` gives for any text that needs no fixing by ftfy and has no HTML entities. ``kept`` is
    as in `clip_bpe`.
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


def huggingface_tokenizer() -> "CLIPTokenizer":
    """The tokenizer of SAM3's processor in `transformers`, which reads up to 32 tokens."""
    from transformers import CLIPTokenizer

    special = {START_TEXT: "<|startoftext|>", END_TEXT: "<|endoftext|>"}  # as Hugging Face spells them
    vocabulary = clip_vocabulary()
    ids = {special.get(token, token): number for number, token in enumerate(vocabulary.tokens)}
    merges: Any = list(vocabulary.merges)
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=32)


def kept_merges(kept: Iterable[int] | None = None) -> npt.NDArray[np.uint16]:
    """CLIP's merges as uint16 [M, 3]: two ids, and the id that they become; ``kept`` is as in `clip_bpe`."""
    vocabulary = clip_vocabulary()
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    ids_kept = range(START_ID) if kept is None else kept
    results = [index for index in ids_kept if BYTE_TOKENS <= index < START_ID]
    parts = [(*(ids[part] for part in vocabulary.merges[result - BYTE_TOKENS]), result) for result in results]
    return np.array(parts, dtype=np.uint16).reshape(-1, 3)


def clip_merges() -> npt.NDArray[np.uint16]:
    """The same with all tokens, from the package data: `kept_merges` wrote it, and would take 0.1 s."""
    with files("litetext.tokenizer").joinpath("data", "clip_merges.npy").open("rb") as file:
        pairs: npt.NDArray[np.uint16] = np.load(file, allow_pickle=False)
    return np.column_stack([pairs, np.arange(BYTE_TOKENS, START_ID, dtype=np.uint16)])


class SmallMerges:
    """CLIP's byte-pair encoding of one word after another, for processes that have little memory.

    The library and Python's dictionaries take 5 MB for 10,000 tokens, two sorted arrays 60 KB. Of two pairs of the
    merges, which `kept_merges` gives, that with the lower result is merged first.
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
