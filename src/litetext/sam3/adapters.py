"""Text encoders across the border of a host: its own text tower as a `TextEncoder`, and any encoder as its tower.

`Segmenter` encodes by itself and needs no swap; `swap_text_encoder` is for code of your own that calls a model.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_outputs import BaseModelOutputWithPooling

from litetext.errors import EncoderError
from litetext.features.encode import valid_rows
from litetext.features.protocol import TextEncoder, TextFeatures, describe
from litetext.features.ragged import pad
from litetext.sam3.host import detector_of, text_width
from litetext.sam3.segmenter import check_width
from litetext.tokenizer.bpe import TokenBatch, clip_tokenizer
from litetext.tokenizer.vocabulary import END_ID, START_ID, VOCABULARY_SIZE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HOST_CONTEXT = 32  # what Sam3Processor pads to
CAUSAL_TYPES = ("clip_text_model",)


@dataclass(frozen=True, eq=False)
class FromHost:
    """The text tower and projection of a host as a `TextEncoder`."""

    name: str
    width: int
    tower: nn.Module
    projection: nn.Module
    causal: bool  # whether padding cannot reach the tokens before it, so that a batch may be cut to its longest text
    context_length: int = HOST_CONTEXT

    __repr__ = describe

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] as the host computes them of ids that its own processor pads, L the longest text."""
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


def encoder_of(model: "PreTrainedModel") -> TextEncoder:
    """What a host reads its text with: the encoder that was swapped in, else its own tower."""
    detector = detector_of(model)
    tower = detector.text_encoder
    if isinstance(tower, AsHostTower):
        return tower.encoder
    if isinstance(tower, nn.Identity):
        raise EncoderError("a host without a text tower", hint="give a text encoder, or load the host with its tower")
    config = detector.config.text_config
    return FromHost(
        name=detector.config.name_or_path or detector.config.model_type,
        width=text_width(detector),
        tower=tower,
        projection=detector.text_projection,
        causal=config.model_type in CAUSAL_TYPES,
        context_length=min(HOST_CONTEXT, config.max_position_embeddings),
    )


@dataclass
class EncodedText(BaseModelOutputWithPooling):
    """The host's usual output of a text tower, and which of its tokens are valid: ``text_mask``, bool [B, L]."""

    text_mask: Tensor | None = None


class AsHostTower(nn.Module):
    """A `TextEncoder` in the place of the host's text tower.

    The host's tokenizer has made ids of the phrases; they are made phrases again, because an encoder has its own
    tokens and its own context. The encoder is no submodule: it stays on its device, in its dtype, and out of the
    host's ``state_dict``. Features come out on the device and in the dtype that were given, those of the host.
    """

    def __init__(self, encoder: TextEncoder, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._holder = (encoder,)  # a tuple, so that an encoder which is a module is not registered
        # Moves with the host, and so has the host's device and dtype.
        self.anchor = nn.Buffer(torch.empty(0, device=device, dtype=dtype), persistent=False)

    @property
    def encoder(self) -> TextEncoder:
        """The encoder that reads the text."""
        return self._holder[0]

    def forward(self, input_ids: Tensor, **_: Any) -> EncodedText:
        """Features of CLIP's ids, int64 [B, W], padded with zeros to at least W tokens.

        What comes after the first end token of a row is padding; the host's attention mask is not read.
        """
        rows = [torch.as_tensor(row) for row in valid_rows(self.encoder, _phrases(input_ids))]
        values, mask = pad(rows, least=input_ids.shape[1], like=self.anchor)
        return EncodedText(last_hidden_state=values, text_mask=mask)


@dataclass(frozen=True, eq=False, repr=False)
class Swap:
    """A swap that can be undone, by `undo` or at the end of a ``with`` block.

    It keeps the old ``text_encoder`` and ``text_projection`` in memory; drop it to let them go.
    """

    detector: Any
    old: tuple[nn.Module, nn.Module]
    new: nn.Module
    hook: RemovableHandle

    def undo(self) -> None:
        """Put back what stood there before; a second time does nothing."""
        if self.detector.text_encoder is self.old[0]:
            return
        if self.detector.text_encoder is not self.new:
            raise EncoderError("another swap came after this one", hint="undo the last swap first")
        self.hook.remove()
        self.detector.text_encoder, self.detector.text_projection = self.old

    def __enter__(self) -> Self:
        """The swap is done already."""
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def swap_text_encoder(model: "PreTrainedModel", encoder: TextEncoder) -> Swap:
    """Let a live host read its text with another encoder; nothing else of it changes.

    ``model(pixel_values=..., **processor(text=...))``, ``get_text_features`` and the video model's sessions work on:
    the ids of the host's processor are made phrases again, and the encoder reads those with its own tokens and its own
    context. What it leaves out of a long text is masked.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`, with or without its own tower.
        encoder: gives features of the width that the model's decoder reads (256 for SAM3).
    """
    detector = detector_of(model)
    check_width(text_width(detector), encoder)
    old = (detector.text_encoder, detector.text_projection)
    new = AsHostTower(encoder, detector.device, detector.dtype).eval()
    detector.text_encoder, detector.text_projection = new, nn.Identity()
    return Swap(detector, old, new, detector.register_forward_pre_hook(_use_own_mask, with_kwargs=True))


def _use_own_mask(detector: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    """Before the detector runs: the mask of the encoder's tokens takes the place of the tokenizer's.

    An encoder with a shorter context reads fewer tokens than the host's processor marks as valid.
    """
    call = dict(zip(inspect.signature(detector.forward).parameters, args, strict=False)) | kwargs
    if call.get("input_ids") is not None:
        ids, mask = call.pop("input_ids"), call.get("attention_mask")
        call["text_embeds"] = detector.get_text_features(input_ids=ids, attention_mask=mask, return_dict=True)
    text = call.get("text_embeds")
    if isinstance(text, EncodedText):  # else the caller computed it before the swap, or elsewhere
        call["attention_mask"] = text.text_mask
    return (), call


def _phrases(ids: Tensor) -> list[str]:
    """The phrases of CLIP's ids [B, W], up to the first end token."""
    phrases = []
    for row in ids.tolist():
        if min(row) < 0 or max(row) >= VOCABULARY_SIZE:
            message = "token ids that CLIP's vocabulary does not have"
            raise EncoderError(message, hint="give those of the host's processor")
        start = 1 if row[0] == START_ID else 0
        end = row.index(END_ID) if END_ID in row else len(row)
        phrases.append(clip_tokenizer().decode(row[start:end]))
    return phrases
