"""Opening what a row measures: each in as few imports as its engine needs, named so that they can be timed apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.bench.exactness import Encode
from litetext.bench.rows import HOST_CONTEXT

PROJECTOR = "projector.safetensors"  # beside a text model of transformers: SAM3's projection after it


@dataclass(frozen=True)
class Opener:
    """A way to open files.

    Attributes:
        imports: modules that it needs, heavy ones first.
        open: from the file or folder and a number of threads to a function of texts.
    """

    imports: tuple[str, ...]
    open: Callable[[Path, int], Encode]


def open_student(path: Path, threads: int) -> Encode:
    """A student of our own format in PyTorch, in the number type of its file."""
    import torch

    from litetext.checkpoints.load import load_encoder

    torch.set_num_threads(threads)
    encoder = load_encoder(path, positions="keep", dtype=_number_type(path), device="cpu")

    def encode(texts: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        features = encoder.encode(texts)
        return features.values.float().numpy(), features.mask.numpy()

    return encode


def open_huggingface(path: Path, threads: int) -> Encode:
    """A text model of `transformers` with SAM3's projection, run as `Sam3Processor` and `get_text_features` do it.

    Texts are padded to 32 tokens and padding is masked in attention. Longer ones are cut off; the processor itself
    leaves them long, and the teacher then fails.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, CLIPTokenizer

    torch.set_num_threads(threads)
    kind = AutoConfig.from_pretrained(path).model_type
    model = tower_class(kind).from_pretrained(path, dtype="auto").eval()
    tokenizer = CLIPTokenizer.from_pretrained(path)
    weights = load_file(path / PROJECTOR)
    outputs, inputs = weights["weight"].shape
    projector = torch.nn.Linear(inputs, outputs, device="meta")
    projector.load_state_dict(weights, assign=True)

    def encode(texts: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        batch = tokenizer(
            list(texts), padding="max_length", max_length=HOST_CONTEXT, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            return projector(hidden).float().numpy(), batch["attention_mask"].bool().numpy()

    return encode


def open_runtime(path: Path, threads: int) -> Encode:
    """A bundle in the runtime without PyTorch, whose cache is off: every phrase is computed."""
    from litetext.export.runtime import TextRuntime

    encode: Encode = TextRuntime.open(path, threads=threads, cache=0, warm=False).encode
    return encode


def open_bank(path: Path, threads: int) -> Encode:  # noqa: ARG001 - nothing is computed
    """A bank of phrases."""
    from litetext.features.bank import PromptBank

    encode: Encode = PromptBank.open(path).encode
    return encode


def tower_class(kind: str) -> Any:
    """The class of `transformers` for the text side of SAM3 or SAM3-LiteText, by its model type."""
    if kind == "clip_text_model":
        from transformers import CLIPTextModelWithProjection

        return CLIPTextModelWithProjection
    from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextModel

    return Sam3LiteTextTextModel


def _number_type(path: Path) -> str:
    """The number type that the position table of a student's file is in: float32 or bfloat16."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {"BF16": "bfloat16", "F16": "float16"}.get(file.get_slice("positions").get_dtype(), "float32")


OPENERS = {
    "torch": Opener(("torch", "litetext.checkpoints.load", "litetext.encoders.student"), open_student),
    "huggingface": Opener(
        (
            "torch",
            "transformers.models.clip.modeling_clip",
            "transformers.models.sam3_lite_text.modeling_sam3_lite_text",
        ),
        open_huggingface,
    ),
    "onnx": Opener(("litetext.export.runtime", "litetext.export.targets.onnx", "onnxruntime"), open_runtime),
    "openvino": Opener(("litetext.export.runtime", "litetext.export.targets.openvino", "openvino"), open_runtime),
    "executorch": Opener(("litetext.export.runtime", "litetext.export.targets.executorch"), open_runtime),
    "coreml": Opener(("litetext.export.runtime", "litetext.export.targets.coreml"), open_runtime),
    "bank": Opener(("litetext.features.bank",), open_bank),
}
