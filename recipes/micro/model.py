"""The micro SAM3 as it is before training."""

import math
from typing import TYPE_CHECKING, Any

from litetext.micro.model import QUERIES, micro_config

if TYPE_CHECKING:
    from transformers import Sam3Model


def make_model(seed: int) -> "Sam3Model":
    """A micro model with random weights, in training mode; the queries begin as boxes on a grid.

    Attention is computed the plain way: on a CPU its gradient takes half the time of the fused kernel's.
    """
    import torch
    from transformers import Sam3Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # `transformers` draws from the global generator; it is put back afterwards
        model: Sam3Model = Sam3Model._from_config(micro_config(), attn_implementation="eager")  # type: ignore[no-untyped-call]
    side = math.isqrt(QUERIES)
    centres = (torch.arange(side) + 0.5) / side
    down, across = torch.meshgrid(centres, centres, indexing="ij")
    boxes = torch.stack([across, down, *torch.full((2, side, side), 1 / side)], dim=-1).reshape(QUERIES, 4)
    decoder: Any = model.detr_decoder
    with torch.no_grad():
        decoder.reference_points.weight.copy_(boxes.logit())
        decoder.box_head.layer3.weight.zero_()  # a query begins where its box is
        decoder.box_head.layer3.bias.zero_()
    model.train()
    return model
