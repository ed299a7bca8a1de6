"""Encoding texts: one loop, the longest first in batches with little padding, and one check of what comes out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import ArrayEncoder, Arrays, Progress, TextEncoder, TextFeatures
from litetext.features.ragged import pad, split
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import as_texts

Encoder = TextEncoder | ArrayEncoder
Rows = list[npt.NDArray[np.float32]]  # of each text the features of its valid tokens, [L_i, D]
Lengths = npt.NDArray[np.int64]

BATCH_TOKENS = 2048  # padding counted
SMALLEST = 8  # a batch may end early when it has this part of the tokens of a full one


def encode(
    encoder: Encoder, texts: Sequence[str], batch_tokens: int = BATCH_TOKENS, progress: Progress | None = None
) -> Iterator[tuple[list[int], Rows]]:
    """Encode texts batch by batch, the longest first, so that a batch that does not fit into memory fails at once.

    Batches follow from the set of texts alone, and those that are left after a batch are batched as if nothing had been
    before it: whoever stops after any batch and goes on with the rest gets the same bits.

    Yields places of texts, and the features float32 [L_i, D] of their valid tokens. A batch has ``batch_tokens`` tokens
    at most, padding counted, but at least one text.
    """
    batches, lengths = plan_encoding(encoder, texts, batch_tokens)
    done, total = 0, int(lengths.sum())
    for places in batches:
        yield places, array_rows(encoder, [texts[place] for place in places])
        done += int(lengths[places].sum())
        if progress is not None:
            progress(done / total)


def plan_encoding(encoder: Encoder, texts: Sequence[str], batch_tokens: int) -> tuple[list[list[int]], Lengths]:
    """The batches of `encode`, each places of texts, and the tokens of each text, int64 [N]."""
    if batch_tokens < 1:
        raise OptionError(f"a batch of {batch_tokens} tokens", hint="give at least 1")
    lengths = token_lengths(texts, encoder.context_length)
    order = sorted(range(len(texts)), key=lambda place: (-int(lengths[place]), texts[place]))
    costs = lengths[order]
    if order and _reads_padding(encoder, texts[order[-1]]):
        costs[:] = encoder.context_length
    return [order[batch] for batch in plan_batches(costs, batch_tokens)], lengths


def valid_rows(encoder: Encoder, texts: Sequence[str]) -> list[Any]:
    """Features [L_i, D] of the valid tokens of each text, as tensors where the encoder gives tensors, in one batch.

    Raises:
        EncoderError: the encoder fails, or gives another number of texts, another width, a text without a token or with
            more than its context, or a number that is not finite; the text is named.
    """
    features = _run(encoder, texts)
    values, mask = (features.values, features.mask) if isinstance(features, TextFeatures) else features
    return check_features(values, mask, texts, encoder)


def array_rows(encoder: Encoder, texts: Sequence[str]) -> Rows:
    """As `valid_rows`, always as float32 arrays; of a batch on a GPU one copy is made."""
    features = _run(encoder, texts)
    values, mask = features.numpy() if isinstance(features, TextFeatures) else features
    return check_features(values, mask, texts, encoder)


def check_features(values: Any, mask: Any, texts: Sequence[str], encoder: Encoder) -> list[Any]:
    """The valid rows of values [B, L, D] and a mask [B, L], arrays or tensors, once they are what was asked for."""
    if tuple(values.shape) != (*mask.shape, encoder.width) or len(mask) != len(texts):
        shapes = f"features {list(values.shape)} with a mask {list(mask.shape)}"
        raise EncoderError(f"{shapes} for {len(texts)} texts of width {encoder.width}", where=encoder.name)
    tokens = values[mask]
    rows = split(tokens, mask)
    for text, row in zip(texts, rows, strict=True):
        if not 1 <= len(row) <= encoder.context_length:
            raise EncoderError(f"{len(row)} tokens of '{text}'", where=encoder.name)
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is cheaper than to look at each number; it may overflow where no number is infinite.
        if not math.isfinite(float(tokens.sum())):
            for text, row in zip(texts, rows, strict=True):
                if not bool((row - row == 0).all()):
                    what = f"the features of '{text}' are not finite"
                    raise EncoderError(what, where=encoder.name, hint="compute in float32")
    return rows


def pooled_features(
    encoder: Encoder, texts: Sequence[str], batch_tokens: int = BATCH_TOKENS, progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """The mean over the valid tokens of each text, float32 [N, D], in the order of the texts."""
    features = np.empty((len(texts), encoder.width), np.float32)
    for places, rows in encode(encoder, texts, batch_tokens, progress):
        features[places] = [row.mean(axis=0) for row in rows]
    return features


def token_lengths(texts: Sequence[str], context_length: int) -> Lengths:
    """Tokens of each text, int64 [N], at most the context length.

    Counted as SAM3's tokenizer does; the lengths of another tokenizer are near enough to batch by.
    """
    return np.minimum(clip_tokenizer().encode(texts).lengths, context_length)


def plan_batches(costs: Lengths, batch_tokens: int) -> Iterator[slice]:
    """Batches of texts with these costs in tokens, int64 [N], descending.

    A batch ends where it is full, or where the texts get shorter if it is large enough by then to be worth its call.
    """
    drops = np.append(np.flatnonzero(np.diff(costs)) + 1, len(costs))
    start = 0
    while start < len(costs):
        cost = int(costs[start])
        full = start + max(1, batch_tokens // cost)
        least = start + max(1, -(-batch_tokens // (SMALLEST * cost)))
        stop = min(full, int(drops[min(int(np.searchsorted(drops, least)), len(drops) - 1)]))
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True, eq=False)
class AsTextEncoder:
    """A source of arrays as a `TextEncoder`, or any source with each text read alone.

    In a batch of another size the last bits of a product differ: read one by one, phrases have the same features in a
    run that was stopped and goes on with the rest.
    """

    source: Encoder
    one_by_one: bool = False  # whether each text is read alone
    bytes: int = 0  # of the files of the source
    parameters: int = 0  # of what computes the features; a bank has none

    def __repr__(self) -> str:
        """That of the source."""
        return repr(self.source)

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def context_length(self) -> int:
        """Of the source."""
        return self.source.context_length

    @property
    def width(self) -> int:
        """Of the source."""
        return self.source.width

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] of at least one text, padded with zeros where each is read alone."""
        features = self.read(texts)
        return features if isinstance(features, TextFeatures) else TextFeatures.of_arrays(*features)

    def read(self, texts: Sequence[str]) -> TextFeatures | Arrays:
        """The same, as arrays where the source gives arrays."""
        if not self.one_by_one:
            return self.source.encode(texts)
        values, mask = pad([row for text in as_texts(texts) for row in valid_rows(self.source, [text])])
        return (values, mask) if isinstance(values, np.ndarray) else TextFeatures(values, mask)


def _run(encoder: Encoder, texts: Sequence[str]) -> TextFeatures | Arrays:
    try:
        return encoder.read(texts) if isinstance(encoder, AsTextEncoder) else encoder.encode(texts)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # of PyTorch, which need not be installed
            raise
        what = f"no memory for a batch of {len(texts)} texts"
        raise EncoderError(what, where=encoder.name, hint="give fewer batch tokens") from error


def _reads_padding(encoder: Encoder, shortest: str) -> bool:
    """Whether a short text costs as much as the whole context."""
    features = _run(encoder, [shortest])
    mask = features.mask if isinstance(features, TextFeatures) else features[1]
    return mask.shape[1] == encoder.context_length and not bool(mask.all())
