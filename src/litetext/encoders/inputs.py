"""What SAM3's encoders share: texts to a batch of tokens, and a batch through a module to features."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from litetext.encoders.config import StudentConfig
from litetext.errors import OptionError
from litetext.features.protocol import TextFeatures
from litetext.tokenizer.batch import TokenBatch
from litetext.tokenizer.bpe import ClipTokenizer, TokenSequences, clip_tokenizer
from litetext.tokenizer.pruned import kept_tokens
from litetext.tokenizer.texts import as_texts
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE


def prepare_rows(texts: Iterable[str] | TokenBatch, config: StudentConfig) -> TokenBatch:
    """Rows [B, L] of a student's token table, for at least one text; L as its padding wants it.

    Args:
        texts: texts, or their tokens by CLIP's ids, padded on the right to any length.
        config: of the student.

    Raises:
        OptionError: as `prepare` has it.
    """
    to_longest = config.padding == "masked"
    if config.kept is None:
        return prepare(texts, config.context_length, to_longest=to_longest, vocabulary=config.vocabulary)
    kept = kept_tokens(config.kept)
    batch = prepare(texts, config.context_length, to_longest=to_longest, tokenizer=kept.tokenizer)
    rows = kept.rows[batch.ids]
    if rows.min() < 0:
        lost = int(batch.ids[rows < 0][0])
        raise OptionError(f"the token {lost}, which was pruned", hint="give texts, or tokens of its own tokenizer")
    return TokenBatch(rows, batch.mask)


def prepare(
    texts: Iterable[str] | TokenBatch,
    context_length: int,
    *,
    to_longest: bool,
    vocabulary: int = VOCABULARY_SIZE,
    tokenizer: ClipTokenizer | None = None,
) -> TokenBatch:
    """Tokens [B, L] of at least one text; those beyond the context are cut off, and the end token kept.

    Args:
        texts: texts, or their tokens, padded on the right to any length.
        context_length: the most tokens that are read of a text.
        to_longest: whether L is that of the longest text, at most the context; else it is the context.
        vocabulary: ids from 0 that there are.
        tokenizer: of texts; None for CLIP's.

    Raises:
        OptionError: no texts, one without tokens, something that is not a string, or a token without a row.
    """
    tokens = isinstance(texts, TokenBatch)
    if isinstance(texts, TokenBatch):
        sequences = _unpadded(texts)
    else:
        sequences = (tokenizer or clip_tokenizer()).encode(as_texts(texts))
    if not len(sequences):
        raise OptionError("no texts to encode", hint="give at least one")
    if tokens and not sequences.lengths.all():
        raise OptionError("a text without tokens", where=f"row {int(sequences.lengths.argmin())} of its batch")
    length = max(2, min(context_length, int(sequences.lengths.max()))) if to_longest else context_length
    batch = TokenBatch.of_sequences(sequences, length)
    if batch.ids.min() < 0 or batch.ids.max() >= vocabulary:
        worst = int(batch.ids.min() if batch.ids.min() < 0 else batch.ids.max())
        raise OptionError(f"the token {worst} for an encoder of {vocabulary} tokens", hint="give tokens of its own")
    return batch


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


def _unpadded(batch: TokenBatch) -> TokenSequences:
    lengths = batch.mask.sum(axis=1)
    if (batch.mask != (np.arange(batch.context_length) < lengths[:, None])).any():
        raise OptionError("padding before a token", hint="pad on the right")
    return TokenSequences(batch.ids[batch.mask].astype(np.int32), lengths)
