"""The first layer begins as the whitening of patches, so that shape counts from the first step as colour does.

Random filters see little but the mean colour of a patch, which varies most. Source: the fixed first layer of Keller
Jordan's CIFAR-10 speed runs (arXiv 2404.00498, section 3.2); here it is only the beginning, and is trained.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from litetext.micro.dense_scenes import make_sheet
from litetext.micro.scenes import SceneOptions

if TYPE_CHECKING:
    from transformers import Sam3Model

_PICTURES = 60
_FLOOR = 0.1  # added to the variance: what varies less is mostly grain


def whiten_patches(model: "Sam3Model", seed: int) -> None:
    """Set the patch embedding to the strongest principal components of patches, each of variance 1, in random order.

    Args:
        model: a micro model; its patch embedding is changed.
        seed: of the pictures.
    """
    projection = model.vision_encoder.backbone.embeddings.patch_embeddings.projection
    width, _, side, _ = projection.weight.shape
    options = SceneOptions(size=16 * side)
    pixels = np.stack([make_sheet(seed + number, options).pixels for number in range(_PICTURES)])
    patches = (
        torch.from_numpy(pixels)
        .float()
        .permute(0, 3, 1, 2)
        .div(127.5)
        .sub(1)
        .unfold(2, side, side)
        .unfold(3, side, side)
    )
    flat = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)  # [N, 3 * side * side]
    variances, directions = torch.linalg.eigh(torch.cov(flat.T))
    strongest = torch.argsort(variances, descending=True)[:width]
    filters = (directions[:, strongest] / (variances[strongest] + _FLOOR).sqrt()).T
    with torch.no_grad():
        projection.weight.copy_(filters.reshape(projection.weight.shape))
