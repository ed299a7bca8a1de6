"""Smaller token tables: the rows that phrases need, and the nearest table of a lower rank."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from litetext.encoders.config import EncoderConfig
from litetext.encoders.encoder import prepare_rows
from litetext.encoders.layers import FactorizedTable, factorize_table, meta_init, table_variances
from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.features.compare import compare_rows
from litetext.features.encode import pooled_features
from litetext.prompts.corpus import PromptCorpus
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import clean
from litetext.tokenizer.pruned import KeptTokens, kept_tokens

UNSEEN = 0.01  # occurrences that a token counts which does not occur: more than nothing, less than any that does


def prune_table(student: TextStudent, texts: Sequence[str]) -> tuple[TextStudent, str]:
    """A copy whose token table holds what texts need, and a note; every other tensor is the same.

    A student that is pruned already loses more rows; texts have the tokens that it gives them.
    """
    config = student.config
    own = None if config.kept is None else kept_tokens(config.kept)
    tokenizer = clip_tokenizer() if own is None else own.tokenizer
    kept = KeptTokens.of_texts(texts, tokenizer)
    whole, pruned = tokenizer.encode(texts), kept.tokenizer.encode(texts)
    if not (np.array_equal(whole.lengths, pruned.lengths) and np.array_equal(whole.ids, pruned.ids)):
        raise EncoderError("the pruned tokenizer gives other tokens", hint="report this as a bug")
    smaller = copy.deepcopy(student).eval()
    smaller.config = replace(config, vocabulary=len(kept), kept=kept.to_text())
    table = smaller.token_table
    rows = list(kept.ids) if own is None else own.rows[list(kept.ids)].tolist()
    table.weight = nn.Parameter(table.weight.detach()[rows].clone())
    table.num_embeddings = len(kept)
    return smaller, f"{len(kept):,} of {config.vocabulary:,} token rows; {len(texts):,} phrases keep their tokens"


def in_float32(student: TextStudent, name: str) -> StudentEncoder:
    """An encoder that computes in float32, whatever the student's dtype; integers stay as they are."""
    return StudentEncoder(copy.deepcopy(student).float(), name)


def coverage(before: StudentEncoder, after: StudentEncoder, texts: Sequence[str]) -> dict[str, Any]:
    """What phrases lose by a pruning that was not made for them.

    Returns:
        ``phrases``; ``split``, how many of them have other tokens than before; ``tokens`` and ``truncated`` (longer
        than the context) before and after; ``words`` in smaller pieces, with the number of phrases that hold them, the
        most frequent 20; ``cosine``, how the mean features of split phrases compare, None where there are none.
    """
    config = after.module.config
    if config.kept is None:
        raise EncoderError("a student that is not pruned", where=after.name, hint="give prune too")
    kept = kept_tokens(config.kept)
    whole, pruned = clip_tokenizer().encode(texts), kept.tokenizer.encode(texts)
    split = [texts[row] for row in split_rows(kept, texts)]
    counts = Counter(word for text in split for word in set(clean(text).split(" ")))
    words = list(counts)
    lost = sorted((words[row] for row in split_rows(kept, words)), key=lambda word: (-counts[word], word))
    cosine = None
    if split:
        features = (pooled_features(in_float32(one.module, one.name), split) for one in (before, after))
        both = zip(*features, strict=True)
        cosine = asdict(compare_rows(((first[None], second[None]) for first, second in both), where=after.name))
    return {
        "phrases": len(texts),
        "split": len(split),
        "tokens": {"before": len(whole.ids), "after": len(pruned.ids)},
        "truncated": {
            "before": int((whole.lengths > config.context_length).sum()),
            "after": int((pruned.lengths > config.context_length).sum()),
        },
        "words": [[word, counts[word]] for word in lost[:20]],
        "cosine": cosine,
    }


def split_rows(kept: KeptTokens, texts: Sequence[str]) -> list[int]:
    """Indices of the texts that have other tokens than CLIP's."""
    if not texts:
        return []
    whole = clip_tokenizer().encode(texts)
    lost = np.add.reduceat(kept.rows[whole.ids] < 0, np.cumsum(whole.lengths) - whole.lengths)
    return [int(row) for row in np.flatnonzero(lost)]


def lower_rank(student: TextStudent, corpus: PromptCorpus, rank: float) -> tuple[TextStudent, str]:
    """A copy with the nearest token table of a rank, and a note on the variance kept.

    No other table of the rank has a smaller error (Eckart and Young, 1936), where that of each token counts as often as
    it is read of the phrases, at least `UNSEEN`. Below 1 the rank is the share of the weighted variance to keep, and
    the smallest one that does is taken (as scikit-learn's `PCA(n_components)`).
    """
    config = student.config
    table = whole_table(student)
    weights = torch.from_numpy(np.maximum(count_rows(config, corpus), UNSEEN))
    variances = table_variances(table, weights).numpy()
    if not rank > 0 or (rank >= 1 and rank != int(rank)):
        raise OptionError(f"a rank of {rank:g}", hint="give a whole number, or a share of the variance below 1")
    chosen = int(rank) if rank >= 1 else choose_rank(variances, rank)
    if config.rank is not None and chosen >= config.rank:
        raise EncoderError(f"its token table is of rank {config.rank} already", hint="give a lower one")
    most = (config.vocabulary * config.width - 1) // (config.vocabulary + config.width)
    if chosen > min(most, config.vocabulary):
        raise OptionError(
            f"a rank of {chosen} saves nothing of a token table [{config.vocabulary}, {config.width}]",
            hint=f"give at most {most}, or a smaller share",
        )
    smaller = factorized(student, chosen, weights)
    # The columns of `up` are orthonormal: what a row keeps is the length of its r numbers.
    plain = smaller.token_table.weight.detach().double().square().sum() / table.square().sum().clamp_min(1e-300)
    share = f"{share_kept(variances, chosen):.2%} of the tokens' variance, weighted by how often they occur"
    return smaller, f"rank {chosen} of {config.width}: {share}; {min(1.0, float(plain)):.2%} with all tokens alike"


def factorized(student: TextStudent, rank: int, weights: Tensor | None = None) -> TextStudent:
    """A copy with the nearest token table of a rank; weights [V] say how much the error of each row counts."""
    low, up = factorize_table(whole_table(student), rank, weights)
    dtype = student.token_table.weight.dtype
    smaller = copy.deepcopy(student)
    smaller.config = replace(student.config, rank=rank)
    with meta_init():  # elsewhere PyTorch's modules draw from its global generator
        smaller.token_table = FactorizedTable(len(low), rank, len(up))
    smaller.token_table.load_state_dict({"weight": low.to(dtype), "up.weight": up.to(dtype)}, assign=True)
    return smaller.eval()


def whole_table(student: TextStudent) -> Tensor:
    """The token table as one, float64 [V, C]."""
    table = student.token_table
    exact = table.weight.detach().double()
    return exact @ table.up.weight.detach().double().T if isinstance(table, FactorizedTable) else exact


def count_rows(config: EncoderConfig, corpus: PromptCorpus) -> npt.NDArray[np.float64]:
    """How often a student reads each row of its token table [V] in a corpus; at padding too, where it is attended."""
    batch = prepare_rows(corpus.texts, config)
    read = batch.mask if config.padding == "masked" else np.ones_like(batch.mask)
    times = np.broadcast_to(corpus.occurrences[:, None], read.shape)[read]
    counts: npt.NDArray[np.float64] = np.bincount(batch.ids[read], times, config.vocabulary).astype(np.float64)
    return counts


def choose_rank(variances: npt.NDArray[np.float64], share: float) -> int:
    """The smallest rank that keeps a share (above 0, at most 1) of variances [C], the largest first."""
    reached = np.cumsum(variances) >= share * variances.sum() * (1 - 1e-12)
    return int(reached.argmax()) + 1


def share_kept(variances: npt.NDArray[np.float64], rank: int) -> float:
    """Share of the variance that is kept at a rank; 1 for a table of zeros."""
    total = float(variances.sum())
    return float(variances[:rank].sum()) / total if total else 1.0
