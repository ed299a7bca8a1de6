"""Across the border of a host, both ways: a `TextEncoder` as its text tower, its text tower as a `TextEncoder`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from litetext.encoders.protocol import TextEncoder, TextFeatures
from litetext.errors import EncoderError
from litetext.tokens.batch import TokenBatch
from litetext.tokens.bpe import clip_tokenizer
from litetext.tokens.vocabulary import END_ID, START_ID, VOCABULARY_SIZE

HOST_CONTEXT = 32  # what Sam3Processor pads to


@dataclass
class EncodedText(BaseModelOutputWithPooling):
    """What an `EncoderTower` answers: the host's usual output, and which of its tokens are valid.

    Attributes:
        text_mask: bool [B, L], True at valid tokens.
    """

    text_mask: Tensor | None = None


class EncoderTower(nn.Module):
    """Stands where the host's text tower stood, and asks a `TextEncoder`.

    The host's tokenizer has made ids of the phrases; they are made phrases again, because an encoder has its own
    tokens and its own context. The encoder is no submodule: it stays on its device, in its number type, and out of the
    host's ``state_dict``. Features come out on the host's device in the host's number type.

    Args:
        encoder: what to ask; its features are what the host's decoder reads.
        device: of the host.
        dtype: of the host.
    """

    def __init__(self, encoder: TextEncoder, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._holder = (encoder,)  # a tuple, so that an encoder which is a module is not registered
        # Moves with the host, and so tells where the host is.
        self.anchor = nn.Buffer(torch.empty(0, device=device, dtype=dtype), persistent=False)

    @property
    def encoder(self) -> TextEncoder:
        """What is asked."""
        return self._holder[0]

    def forward(self, input_ids: Tensor, **_: Any) -> EncodedText:
        """Features of ids [B, W], padded with zeros to at least W tokens.

        The host's attention mask is not read: the end token says the same.

        Args:
            input_ids: int64 [B, W], CLIP's ids; what comes after the first end token is padding.

        Raises:
            EncoderError: ids that CLIP's vocabulary does not have, or the encoder fails.
        """
        features = pad_rows(valid_rows(self.encoder, _phrases(input_ids)), self.anchor, least=input_ids.shape[1])
        return EncodedText(last_hidden_state=features.values, text_mask=features.mask)


@dataclass(frozen=True, eq=False)
class HostTower:
    """The text tower and projection of a host as a `TextEncoder`.

    Attributes:
        name: of the host.
        width: D of the features, after the projection.
        tower: the host's ``text_encoder``.
        projection: the host's ``text_projection``.
        causal: whether padding cannot reach the tokens before it, so that a batch may be cut to its longest text.
        context: tokens that are read of a text.
    """

    name: str
    width: int
    tower: nn.Module
    projection: nn.Module
    causal: bool
    context: int = HOST_CONTEXT

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] as the host computes them of ids that its own processor pads, L the longest text.

        Raises:
            EncoderError: there are no texts.
        """
        if not texts:
            raise EncoderError("no texts to encode", where=self.name)
        batch = TokenBatch.of_texts(texts, self.context)
        longest = int(batch.mask.any(axis=0).sum())
        read = longest if self.causal else self.context
        device = next(self.tower.parameters()).device
        # Hugging Face pads with the end token, upstream and this project with 0.
        ids = torch.from_numpy(np.where(batch.mask, batch.ids, END_ID)[:, :read]).to(device)
        mask = torch.from_numpy(batch.mask[:, :read]).to(device)
        with torch.inference_mode():
            output = self.tower(input_ids=ids, attention_mask=mask.long(), return_dict=True)
            values = self.projection(output.last_hidden_state)
        return TextFeatures(values[:, :longest], mask[:, :longest])


def valid_rows(encoder: TextEncoder, texts: Sequence[str]) -> list[Tensor]:
    """Features of the valid tokens of each text, [L_i, D].

    The decoder's attention knows no order of the prompt's tokens, so that what lies between valid ones can be left out.

    Raises:
        EncoderError: the encoder fails, or gives another number of texts or features that are not finite.
    """
    features = encoder.encode(texts)
    if len(features.values) != len(texts):
        raise EncoderError(f"features of {len(features.values)} texts instead of {len(texts)}", where=encoder.name)
    rows = [values[mask] for values, mask in zip(features.values, features.mask, strict=True)]
    for text, row in zip(texts, rows, strict=True):
        if not bool(row.isfinite().all()):
            raise EncoderError(
                f"the features of '{text}' are not finite", where=encoder.name, mend="compute in float32"
            )
    return rows


def pad_rows(rows: Sequence[Tensor], like: Tensor, least: int = 0) -> TextFeatures:
    """Rows [L_i, D] as one batch [B, L, D] with a mask, zeros as padding.

    Args:
        rows: B of them.
        like: says device and number type.
        least: the least L.
    """
    length = max(least, *(len(row) for row in rows))
    values = torch.zeros((len(rows), length, rows[0].shape[1]), device=like.device, dtype=like.dtype)
    mask = torch.zeros((len(rows), length), device=like.device, dtype=torch.bool)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row.to(values)
        mask[index, : len(row)] = True
    return TextFeatures(values, mask)


def _phrases(ids: Tensor) -> list[str]:
    """The phrases of CLIP's ids [B, W], up to the first end token."""
    phrases = []
    for row in ids.tolist():
        if min(row) < 0 or max(row) >= VOCABULARY_SIZE:
            raise EncoderError(
                "token ids that CLIP's vocabulary does not have", mend="give those of the host's processor"
            )
        start = 1 if row[0] == START_ID else 0
        end = row.index(END_ID) if END_ID in row else len(row)
        phrases.append(clip_tokenizer().decode(row[start:end]))
    return phrases
