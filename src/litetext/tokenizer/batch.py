"""Padded batches of token ids: the one place that pads and truncates."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError
from litetext.tokenizer.bpe import TokenSequences, clip_tokenizer
from litetext.tokenizer.vocabulary import END_ID, PAD_ID


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of B texts at context length L.

    Attributes:
        ids: int64 [B, L], padded with 0 (SAM3's pad id).
        mask: bool [B, L], True at valid tokens (start and end included).
    """

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.mask.shape:
            raise ValueError(f"ids {self.ids.shape} and mask {self.mask.shape} must both be [B, L]")
        if self.ids.dtype != np.int64 or self.mask.dtype != np.bool_:
            raise ValueError(f"ids are {self.ids.dtype} and mask is {self.mask.dtype}, not int64 and bool")

    @classmethod
    def of_texts(cls, texts: Iterable[str], context_length: int) -> "TokenBatch":
        """Tokenize, then pad and truncate to ``context`` tokens.

        Raises:
            OptionError: a text is not a string, or the context is below 2.
        """
        return cls.of_sequences(clip_tokenizer().encode(texts), context_length)

    @classmethod
    def of_sequences(cls, sequences: TokenSequences, context_length: int) -> "TokenBatch":
        """Pad and truncate to ``context`` tokens; the last token of a truncated text becomes the end token.

        Raises:
            OptionError: the context is below 2, too short for the start and the end token.
        """
        if context_length < 2:
            raise OptionError(f"context length {context_length} is below 2", hint="start and end tokens alone take 2")
        lengths = sequences.lengths
        first = np.cumsum(lengths) - lengths
        columns = np.arange(context_length)
        mask = columns < np.minimum(lengths, context_length)[:, None]
        ids = np.full(mask.shape, PAD_ID, dtype=np.int64)
        ids[mask] = sequences.ids[(first[:, None] + columns)[mask]]
        ids[lengths > context_length, -1] = END_ID
        return cls(ids, mask)

    @property
    def context_length(self) -> int:
        """The context length L."""
        return int(self.ids.shape[1])

    def __len__(self) -> int:
        """The number of texts B."""
        return len(self.ids)
