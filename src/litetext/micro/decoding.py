"""The host's encoder and decoder as training runs them: all layers are kept, a picture is seen once for its phrases.

`Sam3Model.forward` keeps the last layer only and looks at the picture anew for each phrase. The modules and what they
compute are the same; the tests compare both.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from litetext.features.protocol import TextFeatures

if TYPE_CHECKING:
    from transformers import Sam3Model


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as each of N phrases lets it be seen.

    Attributes:
        hidden: [N, hw, D].
        places: [N, hw, D], its position encoding.
        side: (h, w).
    """

    hidden: Tensor
    places: Tensor
    side: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder says of N phrases at each of its Z layers.

    Attributes:
        logits: [Z, N, Q] of the queries.
        boxes: [Z, N, Q, 4], centre, width, height.
        queries: [Z, N, Q, D].
        presence: [Z, N]; of boxes that were given, [0, N].
    """

    logits: Tensor
    boxes: Tensor
    queries: Tensor
    presence: Tensor

    def of(self, phrases: Tensor) -> "Decoded":
        """The same of some of the phrases, int64 [M]."""
        return Decoded(
            self.logits[:, phrases], self.boxes[:, phrases], self.queries[:, phrases], self.presence[:, phrases]
        )


def see(model: "Sam3Model", features: Tensor, places: Tensor, picture: Tensor, text: TextFeatures) -> Seen:
    """The host's encoder; its first self-attention, which no phrase has touched yet, is computed once a picture.

    Args:
        model: the host.
        features: [B, D, h, w], the coarsest FPN level.
        places: [B, D, h, w], its position encoding.
        picture: int64 [N], of which picture a phrase is asked.
        text: of the N phrases.
    """
    layers: list[Any] = list(model.detr_encoder.layers)
    first, *rest = layers
    flat, where = (one.flatten(2).transpose(1, 2) for one in (features, places))
    valid = _additive(text)
    hidden = first.layer_norm1(flat)
    looked = hidden + where
    hidden = (flat + first.self_attn(looked, looked, hidden)[0])[picture]
    hidden = hidden + first.cross_attn(first.layer_norm2(hidden), text.values, text.values, attention_mask=valid)[0]
    hidden = hidden + first.mlp(first.layer_norm3(hidden))
    where = where[picture]
    for layer in rest:
        hidden = layer(hidden, text.values, where, valid)
    return Seen(hidden, where, (features.shape[2], features.shape[3]))


def decode(model: "Sam3Model", seen: Seen, text: TextFeatures) -> Decoded:
    """The host's decoder on its own queries.

    Args:
        model: the host.
        seen: of N phrases.
        text: of the same.
    """
    out: Any = model.detr_decoder(
        vision_features=seen.hidden,
        text_features=text.values,
        vision_pos_encoding=seen.places,
        text_mask=text.mask,
        spatial_shapes=torch.tensor([seen.side]),
    )
    hidden = out.intermediate_hidden_states
    return Decoded(
        logits=model.dot_product_scoring(hidden, text.values, text.mask)[..., 0].float(),
        boxes=_shift(out.reference_boxes, model.detr_decoder.box_head(hidden)),
        queries=hidden,
        presence=out.presence_logits[..., 0].float(),
    )


def refine(model: "Sam3Model", boxes: Tensor, seen: Seen, text: TextFeatures) -> Decoded:
    """The host's decoder on boxes that are given, each a query that knows nothing of the others.

    A query takes the embedding of the host's query that begins nearest to its box. Where self-attention would look at
    the other queries it sees itself alone, as if there were no other.

    Args:
        model: the host.
        boxes: [N, G, 4], centre, width, height.
        seen: of N phrases.
        text: of the same.
    """
    decoder: Any = model.detr_decoder
    valid = _additive(text)
    nearest = torch.cdist(boxes[..., :2], decoder.reference_points.weight.detach().sigmoid()[:, :2]).argmin(-1)
    hidden = decoder.query_embed.weight[nearest]
    keys = seen.hidden + seen.places
    found, queries = [], []
    for layer in decoder.layers:
        place = decoder.ref_point_head(decoder.position_encoding.encode_boxes(boxes))
        bias = decoder._get_rpb_matrix(boxes, seen.side)
        alone = layer.self_attn
        hidden = layer.self_attn_layer_norm(hidden + alone.o_proj(alone.v_proj(hidden)))
        read = layer.text_cross_attn(hidden + place, text.values, text.values, attention_mask=valid)[0]
        hidden = layer.text_cross_attn_layer_norm(hidden + read)
        looked = layer.vision_cross_attn(hidden + place, keys, seen.hidden, attention_mask=bias)[0]
        hidden = layer.vision_cross_attn_layer_norm(hidden + looked)
        hidden = layer.mlp_layer_norm(hidden + layer.mlp(hidden))
        queries.append(decoder.output_layer_norm(hidden))
        found.append(_shift(boxes, decoder.box_head(queries[-1])))
        boxes = found[-1].detach()
    every = torch.stack(queries)
    logits = model.dot_product_scoring(every, text.values, text.mask)[..., 0].float()
    return Decoded(logits, torch.stack(found), every, logits.new_zeros(0, len(boxes)))


def _shift(boxes: Tensor, by: Tensor) -> Tensor:
    """Boxes moved by logits."""
    return (boxes.float().logit(eps=1e-3) + by.float()).sigmoid()


def _additive(text: TextFeatures) -> Tensor:
    """The mask as attention adds it: [N, 1, 1, L], 0 at valid tokens."""
    least = torch.finfo(text.values.dtype).min
    return text.values.new_zeros(text.mask.shape).masked_fill(~text.mask, least)[:, None, None]
