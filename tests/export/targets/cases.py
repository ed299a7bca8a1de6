"""Students and real prompts for the tests of every target, and what PyTorch makes of them."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.prompts.corpus import bundled_corpus
from litetext.tokenizer.bpe import TokenBatch, clip_tokenizer
from litetext.tokenizer.pruned import KeptTokens, kept_tokens
from litetext.tokenizer.vocabulary import END_ID, VOCABULARY_SIZE, clip_vocabulary
from tests.encoders.students import tiny_student

LONG = "a very long prompt about one small brown dog and two black cats on the left of a red car"
KINDS = ["attended", "masked", "pruned"]
CONTEXT = 16
SIZES = {"vocabulary": VOCABULARY_SIZE, "encoder_blocks": 1}  # converters take seconds a block


@lru_cache(maxsize=1)
def prompts() -> list[str]:
    """Two hundred real ones, of all lengths, and one that is longer than the context."""
    texts = list(bundled_corpus().texts)
    assert len(clip_tokenizer().encode([LONG]).ids) > CONTEXT
    return [LONG, *texts[:: len(texts) // 199][:199]]


@lru_cache(maxsize=4)
def student(kind: str) -> TextStudent:
    """A folded student; "pruned" has the tokens of `prompts` and many others, as many as int16 cannot count."""
    if kind == "pruned":
        used = {*range(35_000), *KeptTokens.of_texts(prompts()).ids}
        kept = KeptTokens(tuple(sorted(clip_vocabulary().closure(used))))
        whole = tiny_student("masked", **SIZES).fold()
        whole.token_table = torch.nn.Embedding.from_pretrained(whole.token_table.weight[list(kept.ids)].detach())
        whole.config = replace(whole.config, vocabulary=len(kept), kept=kept.to_text())
        return whole.requires_grad_(False)
    padding: Any = kind
    return tiny_student(padding, **SIZES).fold().requires_grad_(False)


def tokens(texts: list[str], length: int, pad: int = END_ID) -> TokenBatch:
    """CLIP's ids as a host pads them: Hugging Face with the end token."""
    batch = TokenBatch.of_texts(texts, length)
    return TokenBatch(np.where(batch.mask, batch.ids, pad), batch.mask)


def check_features(found: np.ndarray, kind: str, texts: list[str], tolerance: float = 1e-4) -> None:
    """That features [B, L, D] of a program are those of PyTorch at every token that both read, and zero elsewhere."""
    want = StudentEncoder(student(kind), kind).encode(texts)
    values, mask = want.values.numpy(), want.mask.numpy()
    common = min(values.shape[1], found.shape[1])
    valid = mask[:, :common]
    assert valid.any(axis=1).all()
    assert np.abs(found[:, :common][valid] - values[:, :common][valid]).max() < tolerance
    assert not found[:, :common][~valid].any()
    assert not found[:, common:].any()


def pruned_id() -> int:
    """One of CLIP's ids that the pruned student has no row for."""
    kept = kept_tokens(str(student("pruned").config.kept))
    return int(np.flatnonzero(kept.rows < 0)[0])
