"""Facebook's own SAM3 package with our text encoder in place of its text tower.

pip install sam3    (SAM License; it computes on NVIDIA cards only)
python examples/facebook_sam3.py sam3.pt s0-onnx photo.jpg "white dog"
"""

import sys
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from litetext.export.runtime import TextRuntime


class LiteTextBackbone(nn.Module):
    """Answers as the package's `VETextEncoder`: sequence first, and a mask that is True at padding."""

    def __init__(self, text: TextRuntime) -> None:
        super().__init__()
        self.text = text

    def forward(self, text: list[str], input_boxes: Any = None, device: Any = None) -> tuple[Tensor, Tensor, Tensor]:
        """Mask [B, L], features [L, B, 256], and the latter again for token embeddings, which the detector ignores."""
        del input_boxes
        features, mask = (torch.from_numpy(array).to(device) for array in self.text.encode(text))
        return ~mask, features.transpose(0, 1), features.transpose(0, 1)


def main(checkpoint: str, text_folder: str, image_path: str, prompt: str) -> dict[str, Any]:
    """Masks, boxes and scores of a phrase; `text_folder` is what `litetext export` wrote."""
    from sam3.model.sam3_image_processor import Sam3Processor
    from sam3.model_builder import build_sam3_image_model

    model = build_sam3_image_model(checkpoint_path=checkpoint)
    model.backbone.language_backbone = LiteTextBackbone(TextRuntime.open(text_folder))
    processor = Sam3Processor(model)
    found: dict[str, Any] = processor.set_text_prompt(
        prompt, processor.set_image(Image.open(image_path).convert("RGB"))
    )
    print(f"{len(found['scores'])} of '{prompt}', scores {found['scores'].tolist()}, boxes {found['boxes'].tolist()}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
