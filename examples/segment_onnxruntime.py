"""Masks from what `litetext export MODEL --to onnx -o DIR` wrote, without LiteText.

It needs onnxruntime, numpy, pillow and tokenizers. Pillow resizes the picture and the masks, which is simple, and
nearly what PyTorch and LiteText do: scores differ by some 1e-3, masks by a few pixels of their edges.

python examples/segment_onnxruntime.py DIR photo.jpg "white dog" overlay.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer


def main(folder: str, picture: str, phrase: str, overlay: str = "overlay.png") -> list[tuple[float, Any, Any]]:
    """Score, box (left, top, right, bottom in pixels) and mask [H, W] of each instance, best first."""
    manifest = json.loads((Path(folder) / "litetext.json").read_text(encoding="utf-8"))
    image = Image.open(picture).convert("RGB")
    pixels = np.asarray(image.resize(manifest["size"][::-1], Image.Resampling.BILINEAR), dtype=np.float32) / 255
    pixels = (pixels - np.float32(manifest["mean"])) / np.float32(manifest["std"])
    seen = run(folder, "vision-encoder", images=np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    ids = Tokenizer.from_file(f"{folder}/tokenizer.json").encode(phrase).ids
    text = run(folder, "text-encoder", input_ids=np.array([ids]), attention_mask=np.ones((1, len(ids)), np.int64))
    found = run(folder, "decoder", **seen, prompt_features=text["text_features"], prompt_mask=text["text_mask"])
    scores = sigmoid(found["pred_logits"][0]) * sigmoid(found["presence_logits"][0])
    instances, shown = [], np.asarray(image, dtype=np.float32)
    for index in (index for index in np.argsort(-scores) if scores[index] > 0.5):
        box = found["pred_boxes"][0, index] * (image.size * 2)
        share = Image.fromarray(sigmoid(found["pred_masks"][0, index]))
        mask = np.asarray(share.resize(image.size, Image.Resampling.BILINEAR)) > 0.5
        shown = np.where(mask[..., None], shown / 2 + (0, 127, 0), shown)
        print(f"{scores[index]:.3f}", *box.round(1))
        instances.append((float(scores[index]), box, mask))
    Image.fromarray(shown.astype(np.uint8)).save(overlay)
    return instances


def run(folder: str, program: str, **inputs: Any) -> dict[str, Any]:
    """The outputs of a program by name; a service keeps the session."""
    session = onnxruntime.InferenceSession(f"{folder}/{program}.onnx", providers=["CPUExecutionProvider"])
    return dict(zip((port.name for port in session.get_outputs()), session.run(None, inputs), strict=True))


def sigmoid(logits: Any) -> Any:
    """As PyTorch's."""
    return 1 / (1 + np.exp(-logits))


if __name__ == "__main__":
    main(*sys.argv[1:])
