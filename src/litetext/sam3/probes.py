"""Probes: what the cross-attentions of a SAM3 host make of the text, read while the host runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from litetext.sam3.host import detector_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class AttentionReading:
    """One cross-attention to the text in one run of a host: B rows, H heads, Q queries, K tokens.

    Attributes:
        layer: "encoder.N" and "decoder.N" of the DETR encoder and decoder, "masks" of the mask decoder.
        logits: float32 [B, H, Q, K], scaled products of queries and keys; what stands at padding means nothing.
        weights: float32 [B, H, Q, K], their softmax over the valid tokens; 0 at padding.
        output: [B, Q, D], of the attention, after its last projection.
        layer_output: [B, ...], of the layer that the attention stands in; of the mask decoder, whose attention stands
            in none, the embedding of the pixels.
    """

    layer: str
    logits: Tensor
    weights: Tensor
    output: Tensor
    layer_output: Tensor


@dataclass(frozen=True, eq=False)
class TextAttention:
    """Where a host reads its text.

    Attributes:
        layer: as of `AttentionReading`.
        attention: the cross-attention.
        holder: gives the layer's output, after the attention has run.
    """

    layer: str
    attention: Any
    holder: nn.Module


def text_attentions(model: "PreTrainedModel") -> list[TextAttention]:
    """The cross-attentions of a host that read its text, in the order in which they run.

    Raises:
        EncoderError: not a SAM3 host.
    """
    detector = detector_of(model)
    encoder, decoder, masks = detector.detr_encoder.layers, detector.detr_decoder.layers, detector.mask_decoder
    return [
        *(TextAttention(f"encoder.{n}", layer.cross_attn, layer) for n, layer in enumerate(encoder)),
        *(TextAttention(f"decoder.{n}", layer.text_cross_attn, layer) for n, layer in enumerate(decoder)),
        TextAttention("masks", masks.prompt_cross_attn, masks.pixel_decoder),
    ]


@contextmanager
def probed(model: "PreTrainedModel", mask: Tensor, visit: Callable[[AttentionReading], None]) -> Iterator[None]:
    """Show `visit` each reading of the text while the block runs the host, and forget it before the next.

    Logits and weights are computed again from queries and keys: the kernels that a host computes attention with give
    none. The run itself stays as it is.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`.
        mask: bool [B, K], True at the valid tokens of the text that the host is given.
        visit: is called once for each of `text_attentions` in each run.

    Raises:
        EncoderError: not a SAM3 host.
    """
    with ExitStack() as hooks:
        for place in text_attentions(model):
            for handle in _watch(place, mask, visit):
                hooks.callback(handle.remove)
        yield


def _watch(place: TextAttention, mask: Tensor, visit: Callable[[AttentionReading], None]) -> list[Any]:
    """Hooks on an attention, which keeps its reading, and on what follows, which passes it on."""
    kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(attention: Any, _: tuple[()], inputs: dict[str, Tensor], outputs: tuple[Tensor, Any]) -> None:
        logits = attention_logits(attention, inputs["query"], inputs["key"])
        weights = logits.masked_fill(~mask[:, None, None], float("-inf")).softmax(dim=-1)
        kept.append((logits, weights, outputs[0]))

    def pass_on(_: nn.Module, __: tuple[Any, ...], layer_output: Tensor) -> None:
        visit(AttentionReading(place.layer, *kept.pop(), layer_output))

    return [
        place.attention.register_forward_hook(keep, with_kwargs=True),
        place.holder.register_forward_hook(pass_on),
    ]


def attention_logits(attention: Any, query: Tensor, key: Tensor) -> Tensor:
    """Scaled products of queries and keys before mask and softmax, float32 [B, H, Q, K].

    Args:
        attention: with the linear layers ``q_proj`` and ``k_proj``.
        query: [B, Q, D].
        key: [B, K, D].
    """
    heads = (attention.num_attention_heads, attention.head_dim)
    queries, keys = (
        projection(x).float().unflatten(-1, heads).transpose(1, 2)
        for projection, x in ((attention.q_proj, query), (attention.k_proj, key))
    )
    logits: Tensor = queries @ keys.transpose(-1, -2) * attention.scaling
    return logits
