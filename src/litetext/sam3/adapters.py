"""Across the border of a host, both ways: a `TextEncoder` as its text tower, its text tower as a `TextEncoder`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from litetext.errors import EncoderError
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.features.ragged import pad_rows, valid_rows
from litetext.tokenizer.batch import TokenBatch
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.vocabulary import END_ID, START_ID, VOCABULARY_SIZE

HOST_CONTEXT = 32  # what Sam3Processor pads to


@dataclass
class EncodedText(BaseModelOutputWithPooling):
    """What an `AsHostTower` answers: the host's usual output, and which of its tokens are valid.

    Attributes:
        text_mask: bool [B, L], True at valid tokens.
    """

    text_mask: Tensor | None = None


class AsHostTower(nn.Module):
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
class FromHost:
    """The text tower and projection of a host as a `TextEncoder`.

    Attributes:
        name: of the host.
        width: D of the features, after the projection.
        tower: the host's ``text_encoder``.
        projection: the host's ``text_projection``.
        causal: whether padding cannot reach the tokens before it, so that a batch may be cut to its longest text.
        context_length: tokens that are read of a text.
    """

    name: str
    width: int
    tower: nn.Module
    projection: nn.Module
    causal: bool
    context_length: int = HOST_CONTEXT

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] as the host computes them of ids that its own processor pads, L the longest text.

        Raises:
            EncoderError: there are no texts.
        """
        if not texts:
            raise EncoderError("no texts to encode", where=self.name)
        batch = TokenBatch.of_texts(texts, self.context_length)
        longest = int(batch.mask.any(axis=0).sum())
        read = longest if self.causal else self.context_length
        device = next(self.tower.parameters()).device
        # Hugging Face pads with the end token, upstream and this project with 0.
        ids = torch.from_numpy(np.where(batch.mask, batch.ids, END_ID)[:, :read]).to(device)
        mask = torch.from_numpy(batch.mask[:, :read]).to(device)
        with torch.inference_mode():
            output = self.tower(input_ids=ids, attention_mask=mask.long(), return_dict=True)
            values = self.projection(output.last_hidden_state)
        return TextFeatures(values[:, :longest], mask[:, :longest])


def _phrases(ids: Tensor) -> list[str]:
    """The phrases of CLIP's ids [B, W], up to the first end token."""
    phrases = []
    for row in ids.tolist():
        if min(row) < 0 or max(row) >= VOCABULARY_SIZE:
            raise EncoderError(
                "token ids that CLIP's vocabulary does not have", hint="give those of the host's processor"
            )
        start = 1 if row[0] == START_ID else 0
        end = row.index(END_ID) if END_ID in row else len(row)
        phrases.append(clip_tokenizer().decode(row[start:end]))
    return phrases
