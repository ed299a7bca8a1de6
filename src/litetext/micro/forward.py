"""A training pass of the micro model: a picture is embedded once for all its phrases, every layer is supervised."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, layer_norm

from litetext.encoders.protocol import TextFeatures
from litetext.micro.batches import Batch
from litetext.micro.objectives import (
    box_losses,
    contrast,
    mask_losses,
    match_queries,
    pool_instances,
    score_loss,
)
from litetext.tokens.vocabulary import END_ID

if TYPE_CHECKING:
    from transformers import Sam3Model

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
}


class Tutor(nn.Module):
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


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder says of N phrases at each of its Z layers.

    Attributes:
        logits: [Z, N, Q] of the queries.
        boxes: [Z, N, Q, 4], centre, width, height.
        presence: [Z, N].
        queries: [N, Q, D] of the last layer.
        encoded: [N, hw, D], the picture as the phrase lets it be seen.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor
    queries: Tensor
    encoded: Tensor


def contrast_losses(model: "Sam3Model", tutor: Tutor, batch: Batch) -> dict[str, Tensor]:
    """The losses of the first stage, in which nothing after the coarsest FPN level is trained."""
    hidden = model.vision_encoder.backbone(normalise(batch.pixels)).last_hidden_state
    coarse = model.vision_encoder.neck.fpn_layers[2](_as_map(hidden))
    return _naming_losses(model, tutor, batch, hidden, coarse)


def set_losses(model: "Sam3Model", tutor: Tutor, batch: Batch) -> dict[str, Tensor]:
    """The losses of the second stage; mean over the decoder's layers where all of them are supervised."""
    vision = model.vision_encoder(normalise(batch.pixels))
    features, places = vision.fpn_hidden_states[:-1], vision.fpn_position_encoding[:-1]
    losses = _naming_losses(model, tutor, batch, vision.last_hidden_state, features[-1])
    text = encode_text(model, batch.ids, batch.mask)
    decoded = decode(model, features[-1][batch.picture], places[-1][batch.picture], text, batch.mask)
    present = batch.named.any(1)
    depth = len(decoded.logits)
    losses["presence"] = binary_cross_entropy_with_logits(decoded.presence, present.float().expand(depth, -1))
    # Boxes, scores and masks are asked only where something is to be found: what is not there is presence's business.
    there = present.nonzero()[:, 0]
    owned = [row.nonzero()[:, 0] for row in batch.named[there]]
    for layer in range(depth):
        logits, boxes = decoded.logits[layer, there], decoded.boxes[layer, there]
        rows, queries, order = match_queries(logits, boxes, [batch.boxes[one] for one in owned])
        instances = torch.cat([owned[row][order[rows == row]] for row in range(len(owned))])
        l1, giou = box_losses(boxes[rows, queries], batch.boxes[instances])
        for name, value in (("score", score_loss(logits, rows, queries)), ("l1", l1), ("giou", giou)):
            losses[name] = losses.get(name, torch.zeros(())) + value / depth
    masks = model.mask_decoder(
        decoder_queries=decoded.queries[there],
        backbone_features=[level[batch.picture[there]] for level in features],
        encoder_hidden_states=decoded.encoded[there],
        prompt_features=text[there],
        prompt_mask=batch.mask[there],
    )
    losses["mask"], losses["dice"] = mask_losses(masks.pred_masks[rows, queries].float(), batch.masks[instances])
    whole = torch.stack([batch.masks[one].sum(0) for one in owned]).clamp(max=1)
    losses["semantic"], losses["semantic_dice"] = mask_losses(masks.semantic_seg[:, 0].float(), whole)
    return losses


def weigh(losses: dict[str, Tensor]) -> Tensor:
    """The weighted sum."""
    return torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()


def encode_text(model: "Sam3Model", ids: Tensor, mask: Tensor) -> Tensor:
    """Features of texts [N, L, D] as the host computes them, from ids padded with 0."""
    padded = ids.masked_fill(~mask, END_ID)  # Hugging Face's padding
    text: Tensor = model.get_text_features(input_ids=padded, attention_mask=mask.long()).pooler_output
    return text


def decode(model: "Sam3Model", features: Tensor, places: Tensor, text: Tensor, mask: Tensor) -> Decoded:
    """The host's encoder and decoder, keeping what `Sam3Model.forward` throws away: all but the last layer.

    Args:
        model: the host.
        features: [N, D, h, w], the coarsest FPN level of each phrase's picture.
        places: its position encoding.
        text: [N, L, D].
        mask: bool [N, L].
    """
    encoded = model.detr_encoder(
        vision_features=[features], text_features=text, vision_pos_embeds=[places], text_mask=mask
    )
    decoder: Any = model.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=text,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    hidden = decoder.intermediate_hidden_states
    logits = model.dot_product_scoring(decoder_hidden_states=hidden, text_features=text, text_mask=mask)
    boxes = (decoder.reference_boxes.float().logit(eps=1e-3) + model.detr_decoder.box_head(hidden).float()).sigmoid()
    return Decoded(
        logits=logits[..., 0].float(),
        boxes=boxes,
        presence=decoder.presence_logits[..., 0].float(),
        queries=hidden[-1],
        encoded=encoded.last_hidden_state,
    )


def _naming_losses(model: "Sam3Model", tutor: Tutor, batch: Batch, hidden: Tensor, coarse: Tensor) -> dict[str, Tensor]:
    """Whether instances are known by their phrases and by their concept.

    Args:
        model: reads the phrases.
        tutor: the rest.
        batch: with the bank.
        hidden: [B, hw, C] of the backbone.
        coarse: [B, D, h, w] of the FPN.
    """
    values = encode_text(model, batch.bank_ids, batch.bank_mask)
    with torch.autocast(coarse.device.type, enabled=False):  # cosines times 100 need more than 8 bits
        texts = TextFeatures(values, batch.bank_mask).pooled()
        instances = pool_instances(coarse.float(), batch.owner, batch.cover)
        seen = pool_instances(_as_map(hidden.float()), batch.owner, batch.cover)
        return {
            "contrast": contrast(instances, texts, batch.truth, tutor.scale()),
            "concept": cross_entropy(tutor.classifier(layer_norm(seen, seen.shape[1:])), batch.concept),
        }


def _as_map(hidden: Tensor) -> Tensor:
    """Tokens [B, hw, C] as [B, C, h, w]."""
    side = math.isqrt(hidden.shape[1])
    return hidden.transpose(1, 2).reshape(len(hidden), -1, side, side)


def normalise(pixels: Tensor) -> Tensor:
    """Bytes as `Sam3ImageProcessor` makes them: -1 to 1."""
    return pixels.float() / 127.5 - 1
