"""A SAM3 that was exported to ONNX, image encoder and decoder, with our text features; neither needs PyTorch.

Exports name the text by one of two conventions: `prompt_features` or `text_features` [B, L, 256], with a mask that is
True at tokens; or, after facebook's package, `language_features` [L, B, 256], with a mask that is True at padding.

python examples/onnx_sam3.py vision-encoder.onnx decoder.onnx s0-onnx photo.jpg "white dog"
"""

import sys
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from litetext.export.runtime import TextRuntime


def main(encoder_file: str, decoder_file: str, text_folder: str, image_path: str, prompt: str) -> dict[str, Any]:
    """The decoder's outputs by name, as they are; `text_folder` is what `litetext export` wrote."""
    encoder, decoder = (onnxruntime.InferenceSession(file) for file in (encoder_file, decoder_file))
    picture = encoder.get_inputs()[0]  # [1, 3, H, W]; SAM3 reads -1..1
    with Image.open(image_path) as image:
        pixels = np.asarray(image.convert("RGB").resize(picture.shape[:1:-1]), dtype=np.float32) / 127.5 - 1
    seen = encoder.run(None, {picture.name: pixels.transpose(2, 0, 1)[None]})
    given = dict(zip((port.name for port in encoder.get_outputs()), seen, strict=True))
    features, mask = text_inputs(decoder, TextRuntime.open(text_folder), prompt)
    for name in ("prompt", "text"):
        given |= {f"{name}_features": features, f"{name}_mask": mask}
    given |= {"language_features": features.transpose(1, 0, 2), "language_mask": ~mask}
    wanted = [port.name for port in decoder.get_inputs()]
    outputs = decoder.run(None, {name: given[name] for name in wanted})
    found = dict(zip((port.name for port in decoder.get_outputs()), outputs, strict=True))
    print(", ".join(f"{name} {list(array.shape)}" for name, array in found.items()))
    return found


def text_inputs(decoder: onnxruntime.InferenceSession, text: TextRuntime, prompt: str) -> tuple[np.ndarray, np.ndarray]:
    """Features [1, L, 256] and mask [1, L], padded to the decoder's L where that is fixed."""
    features, mask = text.encode([prompt])
    shapes = [port.shape for port in decoder.get_inputs() if port.name.endswith("_mask")]
    length = shapes[0][1] if shapes and isinstance(shapes[0][1], int) else mask.shape[1]
    missing = (0, length - mask.shape[1])
    return np.pad(features, ((0, 0), missing, (0, 0))), np.pad(mask, ((0, 0), missing))


if __name__ == "__main__":
    main(*sys.argv[1:])
