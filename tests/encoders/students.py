"""Students and teachers with weights that hide no mistake, for the tests of everything that runs or loads them."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from litetext.encoders.config import Padding, StudentConfig
from litetext.encoders.student import TextStudent, build_student
from litetext.encoders.teacher import TeacherConfig

Module = TypeVar("Module", bound=nn.Module)
VOCABULARY = 600
TINY_TEACHER = TeacherConfig(width=32, heads=4, blocks=3)


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
    config = StudentConfig.of("tiny", padding=padding, vocabulary=VOCABULARY)
    sizes = {**config.__dict__, **changes}
    return disturb(build_student(StudentConfig(**sizes), generator(seed)), seed).eval()


def random_ids(batch: int, length: int, vocabulary: int, seed: int = 0) -> Tensor:
    return torch.randint(vocabulary, (batch, length), generator=generator(seed))


def prefix_mask(lengths: list[int], length: int) -> Tensor:
    return torch.arange(length) < torch.tensor(lengths)[:, None]


def state_of_huggingface(model: nn.Module, projector: nn.Linear) -> dict[str, Tensor]:
    """The weights of transformers' `Sam3LiteTextTextModel` and SAM3's projector under our names."""
    state = dict(model.state_dict())
    ours = {f"projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    ours["token_table.weight"] = state["embeddings.token_embedding.weight"]
    ours["positions"] = state["embeddings.position_embedding.position_embedding"][0, 0]
    parts = {
        "layer_norm1": "attention_norm",
        "layer_norm2": "ffn_norm",
        "self_attn.out_proj": "out",
        "mlp.fc1": "fc1",
        "mlp.fc2": "fc2",
        "token_mixer.reference_batchnorm": "mixer_norm",
        "token_mixer.mixer.batchnorm_skip": "mixer_skip",
        "token_mixer.mixer.conv": "mixer_conv",
        "token_mixer.mixer.batchnorm_conv": "mixer_conv_norm",
        "token_mixer.layer_scale": "mixer_scale",
        "conv_feed_forward.depthwise_conv": "ffn_conv",
        "conv_feed_forward.depthwise_batchnorm": "ffn_conv_norm",
        "conv_feed_forward.mlp.fc1": "fc1",
        "conv_feed_forward.mlp.fc2": "fc2",
        "layer_scale": "ffn_scale",
    }
    for key, tensor in state.items():
        if key.startswith("final_layer_norm"):
            ours[key.replace("final_layer_norm", "final_norm")] = tensor
        elif key.startswith("layers."):
            _, index, rest = key.split(".", 2)
            part, _, leaf = (rest, "", "") if rest.endswith("layer_scale") else rest.rpartition(".")
            if part in parts:
                ours[".".join(filter(None, ("blocks", index, parts[part], leaf)))] = _shaped(part, tensor)
    for index in range(model.config.num_hidden_layers):
        for leaf in ("weight", "bias"):
            keys = [f"layers.{index}.self_attn.{name}_proj.{leaf}" for name in "qkv"]
            if keys[0] in state:
                ours[f"blocks.{index}.qkv.{leaf}"] = torch.cat([state[key] for key in keys])
    return ours


def _shaped(part: str, tensor: Tensor) -> Tensor:
    """Two-dimensional convolutions over one row of tokens, as the one-dimensional ones and linear layers they are."""
    if part.endswith("layer_scale"):
        return tensor.flatten()
    if tensor.ndim == 4:
        return tensor[:, :, 0, 0] if part.startswith("conv_feed_forward.mlp") else tensor[:, :, 0]
    return tensor
