"""The part of CLIP's vocabulary that a pruned token table has rows for, and the tokenizer that goes with it."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError
from litetext.tokenizer.bpe import ClipTokenizer, clip_bpe, clip_tokenizer, merge_by
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE, clip_vocabulary

_WHERE = "the tokens that a pruned table keeps"


@dataclass(frozen=True)
class KeptTokens:
    """Tokens of CLIP that are kept: all bytes, start and end, and each merged token with the two that it is made of.

    Any text still has tokens, and one whose tokens are all kept has the same as before (see `Vocabulary.closure`). Ids
    stay CLIP's; only the rows of a token table are numbered anew, in the order of the ids.

    Attributes:
        ids: of CLIP, in rising order.

    Raises:
        OptionError: not in rising order, none of CLIP's, or not closed.
    """

    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that they are closed, so that nothing is without tokens."""
        if any(left >= right for left, right in pairwise(self.ids)):
            raise OptionError("ids that do not rise", where=_WHERE)
        if not self.ids or self.ids[0] < 0 or self.ids[-1] >= VOCABULARY_SIZE:
            raise OptionError("ids that are not CLIP's", where=_WHERE)
        missing = len(clip_vocabulary().closure(self.ids)) - len(self.ids)
        if missing:
            raise OptionError(f"{missing} tokens are missing that others are made of", where=_WHERE)

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Self:
        """Those that texts need: they keep their tokens."""
        used = np.unique(clip_tokenizer().encode(texts).ids)
        return cls(tuple(sorted(clip_vocabulary().closure(used.tolist()))))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` gave; `kept_tokens` remembers it.

        Raises:
            OptionError: not such a text, or the ids make no sense.
        """
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
    """`KeptTokens.from_text`, remembered: its tokenizer takes a while to build.

    Raises:
        OptionError: as there.
    """
    return KeptTokens.from_text(text)
