"""Encoders whose answers are known: one reads a bag of words, the other tells any two different strings apart."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from litetext.features.protocol import TextFeatures


def vector_of(text: str, width: int) -> npt.NDArray[np.float32]:
    """A vector [width] that depends on every letter of the text: standard normal numbers."""
    seed = int.from_bytes(hashlib.blake2b(text.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(width).astype(np.float32)


@dataclass(frozen=True)
class FakeEncoder:
    """One token for each word (``whole=False``), or one for the whole text (``whole=True``); padded with NaN."""

    whole: bool
    name: str = "fake"
    context_length: int = 16
    width: int = 256
    batches: list[list[str]] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        import torch

        self.batches.append(list(texts))
        tokens = [[text] if self.whole else text.split() for text in texts]
        values = np.full((len(texts), max(map(len, tokens)), self.width), np.nan, dtype=np.float32)
        for row, pieces in enumerate(tokens):
            for column, piece in enumerate(pieces):
                values[row, column] = vector_of(piece, self.width)
        return TextFeatures(torch.from_numpy(values), torch.from_numpy(~np.isnan(values[..., 0])))
