"""Hugging Face's SAM3 with our text features, in code of your own: nothing of the model is replaced.

python examples/huggingface_sam3.py facebook/sam3 s0-onnx photo.jpg "white dog"
"""

import sys

import torch
from PIL import Image
from transformers import Sam3ImageProcessor, Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling

from litetext.export.runtime import TextRuntime


def main(model_id: str, text_folder: str, image_path: str, prompt: str) -> dict[str, torch.Tensor]:
    """Masks, boxes and scores of a phrase; `text_folder` is what `litetext export` wrote."""
    model = Sam3Model.from_pretrained(model_id, dtype=torch.float32).eval()
    processor = Sam3ImageProcessor.from_pretrained(model_id)
    model.text_encoder = model.text_projection = None  # 1.4 GB in float32 that nothing reads any more
    text = TextRuntime.open(text_folder)
    image = Image.open(image_path).convert("RGB")
    features, mask = text.encode([prompt])  # [1, L, 256], and True at tokens
    with torch.inference_mode():
        outputs = model(
            pixel_values=processor(images=image, return_tensors="pt")["pixel_values"],
            text_embeds=BaseModelOutputWithPooling(pooler_output=torch.from_numpy(features)),
            attention_mask=torch.from_numpy(mask),
        )
    found: dict[str, torch.Tensor] = processor.post_process_instance_segmentation(
        outputs, threshold=0.5, target_sizes=[(image.height, image.width)]
    )[0]
    print(f"{len(found['scores'])} of '{prompt}', scores {found['scores'].tolist()}, boxes {found['boxes'].tolist()}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
