"""Students and teachers with weights that hide no mistake, for the tests of everything that runs or loads them."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from litetext.checkpoints.formats import FORMATS
from litetext.checkpoints.schema import UNUSED
from litetext.encoders.config import PRESETS, EncoderConfig, Padding
from litetext.encoders.student import TextStudent, build_student

Module = TypeVar("Module", bound=nn.Module)
VOCABULARY = 600


def teacher_config(width: int, heads: int, blocks: int, **changes: Any) -> EncoderConfig:
    return replace(PRESETS["teacher"], width=width, heads=heads, encoder_blocks=blocks, projection=0, **changes)


TINY_TEACHER = teacher_config(32, 4, 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def disturb(module: Module, seed: int = 0) -> Module:
    """Random values in place of the ones and zeros that fresh norms, scales and biases hold."""
    random = generator(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 3.0, generator=random)
        elif name.endswith("scale") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=random)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0.0, 0.3, generator=random)
    return module


def tiny_student(padding: Padding, seed: int = 0, **changes: Any) -> TextStudent:
    config = replace(EncoderConfig.of("tiny", padding=padding, vocabulary=VOCABULARY), **changes)
    return disturb(build_student(config, generator(seed)), seed).eval()


def random_ids(batch: int, length: int, vocabulary: int, seed: int = 0) -> Tensor:
    return torch.randint(vocabulary, (batch, length), generator=generator(seed))


def prefix_mask(lengths: list[int], length: int) -> Tensor:
    return torch.arange(length) < torch.tensor(lengths)[:, None]


def state_of_huggingface(model: nn.Module, projector: nn.Linear) -> dict[str, Tensor]:
    """The weights of transformers' `Sam3LiteTextTextModel` and SAM3's projector under our names."""
    row = next(row for row in FORMATS if row.name == "sam3-litetext-transformers")
    state = {f"text_encoder.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {f"text_projection.{name}": tensor for name, tensor in projector.state_dict().items()}
    kinds = ["encoder" if hasattr(layer, "self_attn") else "mixer" for layer in model.layers]
    rules = [rule for rule in row.rules(kinds) if rule.ours != UNUSED]
    return {rule.ours: rule.change.load([state[name] for name in rule.theirs]) for rule in rules}
