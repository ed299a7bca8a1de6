"""Texts to features through a module: one encoder for students and the teacher."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from litetext.encoders.config import EncoderConfig
from litetext.errors import OptionError
from litetext.features.protocol import TextFeatures, describe
from litetext.storage import atomic_file
from litetext.tokenizer.bpe import ClipTokenizer, TokenBatch, TokenSequences, clip_tokenizer
from litetext.tokenizer.clean import as_texts
from litetext.tokenizer.pruned import kept_tokens

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent
    from litetext.encoders.teacher import TextTeacher


@dataclass(frozen=True, eq=False)
class ModuleEncoder:
    """A student or the teacher as a `TextEncoder`: it tokenizes, and computes on its module's device and dtype."""

    module: "TextStudent | TextTeacher"  # run in eval mode, whatever mode it is in
    name: str  # what reports call it

    __repr__ = describe

    @property
    def context_length(self) -> int:
        """Tokens that it reads of a text, start and end token counted."""
        return self.module.config.context_length

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.module.config.output

    @property
    def text_tokenizer(self) -> ClipTokenizer:
        """CLIP's, or what pruning left of it."""
        kept = self.module.config.kept
        return clip_tokenizer() if kept is None else kept_tokens(kept).tokenizer

    def encode(self, texts: str | Iterable[str] | TokenBatch) -> TextFeatures:
        """Features [B, L, D] of a text, of at least one text, or of their tokens, without a gradient.

        L is the context length where padding is attended, else that of the longest text, at most the context length.

        Raises:
            OptionError: no texts, one without tokens, something that is not a string, or a token without a row.
        """
        return encode_batch(self.module, prepare_rows(texts, self.module.config))


def prepare_rows(texts: str | Iterable[str] | TokenBatch, config: EncoderConfig) -> TokenBatch:
    """Rows [B, L] of an encoder's token table, for texts or for their tokens by CLIP's ids, padded on the right.

    What is too long is cut off before its end token; L and the errors are as in `ModuleEncoder.encode`.
    """
    kept = None if config.kept is None else kept_tokens(config.kept)
    if isinstance(texts, TokenBatch):
        sequences = _unpadded(texts)
    else:
        tokenizer = clip_tokenizer() if kept is None else kept.tokenizer
        sequences = tokenizer.encode(as_texts(texts))
    if not len(sequences):
        raise OptionError("no texts to encode", hint="give at least one")
    if not sequences.lengths.all():
        raise OptionError("a text without tokens", where=f"row {int(sequences.lengths.argmin())} of its batch")
    longest = config.context_length if config.padding == "attended" else int(sequences.lengths.max())
    batch = TokenBatch.of_sequences(sequences, max(2, min(config.context_length, longest)))
    size = config.vocabulary if kept is None else len(kept.rows)
    unknown = batch.ids[(batch.ids < 0) | (batch.ids >= size)]
    if unknown.size:
        raise OptionError(f"the token {unknown[0]} for an encoder of {size} tokens", hint="give tokens of its own")
    if kept is None:
        return batch
    rows = kept.rows[batch.ids]
    if rows.min() < 0:
        pruned = int(batch.ids[rows < 0][0])
        raise OptionError(f"the token {pruned}, which was pruned", hint="give texts, or tokens of its own tokenizer")
    return TokenBatch(rows, batch.mask)


def encode_batch(module: nn.Module, batch: TokenBatch) -> TextFeatures:
    """Features of a module, called with ids and mask [B, L] on its device, in eval mode and without a gradient."""
    device = next(module.parameters()).device
    ids, mask = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.mask).to(device)
    # Not inference mode: a loss may read these features, and autograd refuses to save inference tensors.
    with torch.no_grad(), evaluating(module):
        return TextFeatures(module(ids, mask), mask)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode, and each of its parts back in its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file in one step."""
    with atomic_file(path) as file:
        file.write(save(tensors, metadata))


def _unpadded(batch: TokenBatch) -> TokenSequences:
    lengths = batch.mask.sum(axis=1)
    if (batch.mask != (np.arange(batch.context_length) < lengths[:, None])).any():
        raise OptionError("padding before a token", hint="pad on the right")
    return TokenSequences(batch.ids[batch.mask].astype(np.int32), lengths)
