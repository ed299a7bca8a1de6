"""The layers of a SAM3 host that read its text, taken out of it: what a student is distilled for."""

import copy
from collections.abc import Collection
from typing import TYPE_CHECKING

from torch import Tensor, nn

from litetext.distillation.losses import Kind, Projected
from litetext.errors import EncoderError
from litetext.features.protocol import TextFeatures
from litetext.sam3.host import detector_of, text_attentions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TextProjections(nn.Module):
    """Copies of those layers, frozen and in float32, as `Projections`; the host itself is not needed any more.

    They are the projections to keys and values of each cross-attention to the text (each layer of the DETR encoder and
    of the decoder, and the mask decoder's), and what scores the queries: an MLP with a residual and a norm, the mean
    over the valid tokens, a projection. None has dropout, so that it does not matter which mode it is in. They depend
    neither on an image nor on the host's text encoder, which may have been swapped.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        super().__init__()
        detector = detector_of(model)
        attentions = {name: attention for name, (attention, _) in text_attentions(detector).items()}
        scoring = detector.dot_product_scoring
        self.layers = tuple(attentions)
        self.key_layers = nn.ModuleList(copy.deepcopy(attention.k_proj) for attention in attentions.values())
        self.value_layers = nn.ModuleList(copy.deepcopy(attention.v_proj) for attention in attentions.values())
        self.mlp = copy.deepcopy(scoring.text_mlp)
        self.norm = copy.deepcopy(scoring.text_mlp_out_norm)
        self.projection = copy.deepcopy(scoring.text_proj)
        self.width = int(scoring.text_proj.in_features)
        self.float().requires_grad_(requires_grad=False)

    def forward(self, features: TextFeatures, kinds: Collection[Kind]) -> Projected:
        """What the host makes of features of its width, on the device of the layers, for each of the kinds.

        By layer: "encoder.0", "decoder.0", "masks"; "queries" for the scores.
        """
        if features.values.shape[2] != self.width:
            message = f"features of width {features.values.shape[2]} where the host reads {self.width}"
            raise EncoderError(message, hint="distill a student of the host's width")
        mask, x = features.mask, features.values[features.mask].float()  # [T, D]: padding is most of a batch
        projected: dict[Kind, dict[str, Tensor]] = {}
        if "keys" in kinds:
            projected["keys"] = self._each(self.key_layers, x, mask)
        if "values" in kinds:
            projected["values"] = self._each(self.value_layers, x, mask)
        if "scoring" in kinds:
            projected["scoring"] = {"queries": self._score(x, mask)}
        return projected

    def _each(self, layers: nn.ModuleList, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {name: _spread(layer(x), mask) for name, layer in zip(self.layers, layers, strict=True)}

    def _score(self, x: Tensor, mask: Tensor) -> Tensor:
        """What the queries are multiplied with, [B, D]."""
        pooled = TextFeatures(_spread(self.norm(self.mlp(x) + x), mask), mask).pooled()
        vector: Tensor = self.projection(pooled)
        return vector


def _spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows [T, K] of the valid tokens at their places in [B, L, K], with zeros at padding."""
    return rows.new_zeros((*mask.shape, rows.shape[1])).index_put((mask,), rows)
