"""Lossless vocabulary pruning: the rows of the token table that a corpus needs, and the tokenizer that fits them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from litetext.checkpoints.hub import locate
from litetext.checkpoints.reader import open_checkpoint
from litetext.checkpoints.shapes import UNUSED
from litetext.checkpoints.summary import summarize_checkpoint
from litetext.checkpoints.writer import OWN, Identity, save_encoder
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import Progress, TextEncoder, pooled_features
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import clean
from litetext.tokenizer.pruned import KeptTokens

TABLE = "token_table.weight"
MOST_WORDS = 20


@dataclass(frozen=True)
class Pruning:
    """What was pruned.

    Attributes:
        source: what was read.
        target: what was written.
        phrases: of the corpus, each of which has the tokens that it had.
        rows: of the token table, before and after.
        parameters: of all tensors that are read, before and after.
        bytes: of the files, before and after.
        kept: the tokens that have a row.
    """

    source: str
    target: str
    phrases: int
    rows: tuple[int, int]
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    kept: KeptTokens

    def to_json(self) -> dict[str, Any]:
        """Plain values; the tokens themselves are in the file."""
        return {
            name: {"before": value[0], "after": value[1]} if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if name != "kept"
        }


@dataclass(frozen=True)
class Coverage:
    """What other phrases lose by a pruning.

    Attributes:
        phrases: how many were looked at.
        split: of these, how many have other tokens than before.
        tokens: of all phrases, before and after.
        truncated: phrases longer than the context, before and after.
        words: the words that fall into more pieces, with the number of phrases that hold them; the most frequent first.
        cosine: between the features of split phrases before and after, each averaged over its tokens: mean, 1st
            percentile and least; None where no phrase was split or nothing was computed.
    """

    phrases: int
    split: int
    tokens: tuple[int, int]
    truncated: tuple[int, int]
    words: tuple[tuple[str, int], ...]
    cosine: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {
            "tokens": {"before": self.tokens[0], "after": self.tokens[1]},
            "truncated": {"before": self.truncated[0], "after": self.truncated[1]},
            "words": [list(pair) for pair in self.words],
        }


def prune_checkpoint(source: str, texts: Sequence[str], target: Path) -> Pruning:
    """Write a student whose token table holds what a corpus needs; every phrase of it keeps its tokens and features.

    Every other tensor is taken over bit for bit; a projection that SAM3 never reads is left out.

    Args:
        source: a student, as `load_encoder` takes it.
        texts: the corpus.
        target: a safetensors file in our own format, replaced in one step; the tokenizer is in it.

    Raises:
        EncoderError: not a student, or one that is pruned already.
        OptionError: no phrases, or the target is the source.
        MissingExtraError: PyTorch is not installed.
        OSError: the file cannot be written.
    """
    path = locate(source)
    if target.exists() and target.resolve() == path.resolve():
        raise OptionError("the output is the input", where=str(target), hint="give another file")
    checkpoint = open_checkpoint(path)
    if checkpoint.model != "student":
        raise EncoderError("a teacher, not a student", where=checkpoint.where, hint="distill a student of it")
    config = checkpoint.config()
    if config.kept is not None:
        raise EncoderError("its token table is pruned already", where=checkpoint.where, hint="prune the whole student")
    if config.quantized:
        raise EncoderError("a quantized student", where=checkpoint.where, hint="prune first, then quantize")
    kept = KeptTokens.of_texts(texts)
    check_same_tokens(kept, texts)
    rows = list(kept.ids)
    tensors = {name: tensor[rows] if name == TABLE else tensor for name, tensor in checkpoint.read() if name != UNUSED}
    smaller = replace(config, vocabulary=len(kept), kept=kept.to_text())
    save_encoder(Identity("student", smaller), tensors.items(), target, OWN)
    before, after = summarize_checkpoint(source), summarize_checkpoint(str(target))
    return Pruning(
        source=str(path),
        target=str(target),
        phrases=len(texts),
        rows=(config.vocabulary, len(kept)),
        parameters=(before.parameters, after.parameters),
        bytes=(before.file_bytes, after.file_bytes),
        kept=kept,
    )


def check_same_tokens(kept: KeptTokens, texts: Sequence[str]) -> None:
    """Raise an `EncoderError` unless every text has the tokens that CLIP gives it: no pruning is taken on faith."""
    whole, pruned = clip_tokenizer().encode(texts), kept.tokenizer.encode(texts)
    if not (np.array_equal(whole.lengths, pruned.lengths) and np.array_equal(whole.ids, pruned.ids)):
        row = next(row for row, (one, other) in enumerate(zip(whole, pruned, strict=True)) if list(one) != list(other))
        raise EncoderError("the pruned tokenizer gives other tokens", where=f"phrase {row}, '{texts[row]}'")


def cover(kept: KeptTokens, texts: Sequence[str], context_length: int) -> Coverage:
    """How a pruned tokenizer reads phrases that it may not have been made for.

    Args:
        kept: its tokens.
        texts: at least one phrase.
        context_length: tokens that the student reads.
    """
    whole, pruned = clip_tokenizer().encode(texts), kept.tokenizer.encode(texts)
    split = [texts[row] for row in split_rows(kept, texts)]
    return Coverage(
        phrases=len(texts),
        split=len(split),
        tokens=(len(whole.ids), len(pruned.ids)),
        truncated=(int((whole.lengths > context_length).sum()), int((pruned.lengths > context_length).sum())),
        words=_split_words(kept, split),
    )


def split_rows(kept: KeptTokens, texts: Sequence[str]) -> list[int]:
    """PackedTokens of the texts that have other tokens than CLIP's."""
    if not texts:
        return []
    whole = clip_tokenizer().encode(texts)
    lost = np.add.reduceat(kept.rows[whole.ids] < 0, np.cumsum(whole.lengths) - whole.lengths)
    return [int(row) for row in np.flatnonzero(lost)]


def compare_features(
    before: TextEncoder, after: TextEncoder, texts: Sequence[str], progress: Progress | None = None
) -> dict[str, float] | None:
    """Cosine of pooled features of texts before and after: mean, 1st percentile, least; None without texts."""
    if not texts:
        return None
    one, other = pooled_features(before, texts), pooled_features(after, texts, progress=progress)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return {"mean": float(cosine.mean()), "p1": float(np.quantile(cosine, 0.01)), "min": float(cosine.min())}


def _split_words(kept: KeptTokens, split: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Words whose tokens are not all kept, and how many of the split phrases hold them."""
    counts = Counter(word for text in split for word in set(clean(text).split(" ")))
    words = list(counts)
    lost = {words[row] for row in split_rows(kept, words)}
    ranked = sorted(
        ((word, count) for word, count in counts.items() if word in lost), key=lambda one: (-one[1], one[0])
    )
    return tuple(ranked[:MOST_WORDS])
