"""A training pass: a picture is embedded once for all its phrases, and every layer of the decoder is supervised.

`Sam3Model.forward` keeps the last layer only and embeds the picture again for each phrase. The modules and what they
compute are the same; the tests compare both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, layer_norm

from litetext.features.protocol import TextFeatures
from litetext.tokenizer.vocabulary import END_ID
from recipes.micro.batches import Batch
from recipes.micro.losses import (
    box_losses,
    contrast,
    mask_losses,
    match_queries,
    matching_costs,
    point_losses,
    pool_instances,
    score_loss,
)

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


# Of each loss in the sum.
WEIGHTS = {
    "contrast": 1.0,
    "concept": 1.0,
    "presence": 2.0,
    "score": 1.0,
    "l1": 5.0,
    "giou": 2.0,
    "mask": 5.0,
    "dice": 5.0,
    "semantic": 2.0,
    "semantic_dice": 1.0,
    "guess": 1.0,
    "edge": 5.0,
    "point_dice": 5.0,
}


class AuxiliaryHeads(nn.Module):
    """What helps to train and is not shipped: the scale of the contrastive loss, and a classifier of instances.

    The classifier says of the pooled features of the backbone which concept they show, whatever its colour: shapes are
    learnt from it much sooner than from words, which a model first tells apart by colour.

    Args:
        width: of the backbone.
        concepts: how many.
    """

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.classifier = nn.Linear(width, concepts)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def scale(self) -> Tensor:
        """The inverse temperature, at most 100."""
        return self.log_scale.clamp(max=4.6).exp()


def contrast_losses(model: "Sam3Model", heads: AuxiliaryHeads, batch: Batch) -> dict[str, Tensor]:
    """The losses of the first stage, in which nothing after the coarsest FPN level is trained."""
    hidden = model.vision_encoder.backbone(normalize_pixels(batch.pixels)).last_hidden_state
    coarse = model.vision_encoder.neck.fpn_layers[2](_as_map(hidden))
    return _naming_losses(model, heads, batch, hidden, coarse)


def set_losses(model: "Sam3Model", heads: AuxiliaryHeads, batch: Batch) -> dict[str, Tensor]:
    """The losses of the later stages; mean over the decoder's layers where all of them are supervised."""
    vision = model.vision_encoder(normalize_pixels(batch.pixels))
    features, places = vision.fpn_hidden_states[:-1], vision.fpn_position_encoding[:-1]
    losses = _naming_losses(model, heads, batch, vision.last_hidden_state, features[-1])
    text = encode_text(model, batch.ids, batch.mask)
    seen = see(model, features[-1], places[-1], batch.picture, text)
    decoded = decode(model, seen, text)
    present = batch.named.any(1)
    losses["presence"] = binary_cross_entropy_with_logits(
        decoded.presence, present.float().expand(len(decoded.presence), -1)
    )
    # Boxes, scores and masks are asked only where something is to be found: what is not there is presence's business.
    there = present.nonzero()[:, 0]
    asked = _Asked(TextFeatures(text.values[there], text.mask[there]), batch.named[there], batch)
    seen = Seen(seen.hidden[there], seen.places[there], seen.side)
    own = decoded.of(there)
    guessed = refine(model, batch.guess_boxes[there], seen, asked.text) if batch.guesses else None
    queries = [*own.queries] if guessed is None else [*own.queries, guessed.queries[-1]]
    masks = model.mask_decoder(
        decoder_queries=torch.cat(queries, dim=1),
        backbone_features=[level[batch.picture[there]] for level in features],
        encoder_hidden_states=seen.hidden,
        prompt_features=asked.text.values,
        prompt_mask=asked.text.mask,
    )
    whole = torch.stack([batch.masks[one].sum(0) for one in asked.named]).clamp(max=1)
    losses["semantic"], losses["semantic_dice"] = mask_losses(masks.semantic_seg[:, 0].float(), whole)
    matches = [_match(asked, own, layer, masks.pred_masks) for layer in range(len(own.logits))]
    if guessed is not None:
        matches.append(_take_guesses(asked, batch.guess_of[there], sum(one.shape[1] for one in queries[:-1])))
    # Masks are picked in one go: a gradient through many picks of the same large tensor costs more than the decoder.
    rows, columns = (torch.cat([getattr(one, name) for one in matches]) for name in ("rows", "columns"))
    picked = masks.pred_masks[rows, columns].float().split([len(one.rows) for one in matches])
    losses |= _query_losses(asked, own, matches, picked)
    if guessed is not None:
        losses["guess"] = _guess_loss(asked, guessed, matches[-1], picked[-1])
    return losses


@dataclass(frozen=True, eq=False)
class _Asked:
    """The M phrases that are present.

    Attributes:
        text: their features.
        named: bool [M, I].
        batch: the rest.
    """

    text: TextFeatures
    named: Tensor
    batch: Batch


@dataclass(frozen=True, eq=False)
class _Matches:
    """Queries and what they have to find, int64 [K] each.

    Attributes:
        rows: the phrase.
        queries: of a layer, or the guessed box.
        columns: the same in the mask decoder's answer, which holds the queries of all layers and the guessed boxes.
        instances: of the batch.
    """

    rows: Tensor
    queries: Tensor
    columns: Tensor
    instances: Tensor


def _match(asked: _Asked, decoded: Decoded, layer: int, masks: Tensor) -> _Matches:
    """A layer's queries and what they are matched with; mask logits [M, columns, h, w]."""
    logits, boxes, batch = decoded.logits[layer], decoded.boxes[layer], asked.batch
    first = layer * logits.shape[1]
    mine = masks[:, first : first + logits.shape[1]].detach()
    rows, queries, instances = match_queries(matching_costs(logits, boxes, mine, batch.boxes, batch.masks), asked.named)
    return _Matches(rows, queries, first + queries, instances)


def _take_guesses(asked: _Asked, near: Tensor, first: int) -> _Matches:
    """The guessed boxes that lie near a named instance; `near` is int64 [M, G], their columns begin at `first`."""
    rows, queries = asked.named.gather(1, near).nonzero(as_tuple=True)
    return _Matches(rows, queries, first + queries, near[rows, queries])


def _query_losses(
    asked: _Asked, decoded: Decoded, matches: Sequence[_Matches], masks: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The losses of the decoder's own queries, averaged over its layers; mask logits [K, h, w] of each layer."""
    batch, depth = asked.batch, len(decoded.logits)
    sums: dict[str, Tensor] = {}
    for logits, boxes, found, mask in zip(decoded.logits, decoded.boxes, matches[:depth], masks[:depth], strict=True):
        terms = {"score": score_loss(logits, found.rows, found.queries)}
        terms["l1"], terms["giou"] = box_losses(boxes[found.rows, found.queries], batch.boxes[found.instances])
        terms |= _mask_terms(batch, found, mask)
        sums = {name: sums.get(name, 0) + value / depth for name, value in terms.items()}
    return sums


def _guess_loss(asked: _Asked, guessed: Decoded, found: _Matches, masks: Tensor) -> Tensor:
    """What becomes of the boxes that were given, weighted as the queries' losses are; mask logits [K, h, w]."""
    batch, depth = asked.batch, len(guessed.logits)
    right = torch.zeros_like(guessed.logits[0])
    right[found.rows, found.queries] = 1
    terms = {"score": binary_cross_entropy_with_logits(guessed.logits, right.expand(depth, -1, -1))}
    terms |= _mask_terms(batch, found, masks)
    every = batch.boxes[found.instances].repeat(depth, 1)
    terms["l1"], terms["giou"] = box_losses(guessed.boxes[:, found.rows, found.queries].flatten(0, 1), every)
    return weigh(terms)


def _mask_terms(batch: Batch, found: _Matches, masks: Tensor) -> dict[str, Tensor]:
    """The losses of masks, logits [K, h, w], against those of the instances that they have to find."""
    terms = dict(zip(("mask", "dice"), mask_losses(masks, batch.masks[found.instances]), strict=True))
    if batch.points.shape[1]:
        points, inside = batch.points[found.instances], batch.inside[found.instances]
        terms["edge"], terms["point_dice"] = point_losses(masks, points, inside)
    return terms


def weigh(losses: dict[str, Tensor]) -> Tensor:
    """The weighted sum."""
    return torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()


def encode_text(model: "Sam3Model", ids: Tensor, mask: Tensor) -> TextFeatures:
    """Features of N texts as the host computes them, from ids padded with 0."""
    padded = ids.masked_fill(~mask, END_ID)  # Hugging Face's padding
    return TextFeatures(model.get_text_features(input_ids=padded, attention_mask=mask.long()).pooler_output, mask)


def _naming_losses(
    model: "Sam3Model", heads: AuxiliaryHeads, batch: Batch, hidden: Tensor, coarse: Tensor
) -> dict[str, Tensor]:
    """Whether instances are known by their phrases and by their concept.

    Args:
        model: reads the phrases.
        heads: the rest.
        batch: with the bank.
        hidden: [B, hw, C] of the backbone.
        coarse: [B, D, h, w] of the FPN.
    """
    bank = encode_text(model, batch.bank_ids, batch.bank_mask)
    with torch.autocast(coarse.device.type, enabled=False):  # cosines times 100 need more than 8 bits
        texts = bank.pooled()
        instances = pool_instances(coarse.float(), batch.owner, batch.cover)
        seen = pool_instances(_as_map(hidden.float()), batch.owner, batch.cover)
        return {
            "contrast": contrast(instances, texts, batch.truth, heads.scale()),
            "concept": cross_entropy(heads.classifier(layer_norm(seen, seen.shape[1:])), batch.concept),
        }


def _as_map(hidden: Tensor) -> Tensor:
    """Tokens [B, hw, C] as [B, C, h, w]."""
    side = math.isqrt(hidden.shape[1])
    return hidden.transpose(1, 2).reshape(len(hidden), -1, side, side)


def normalize_pixels(pixels: Tensor) -> Tensor:
    """Bytes as `Sam3ImageProcessor` makes them: -1 to 1."""
    return pixels.float() / 127.5 - 1
