"""Deterministic checkpoints in every format that users have, made from models that carry the names themselves.

The models are those of `transformers` and OpenCLIP, so that their names and their outputs are oracles. Only the names
of SAM3-LiteText's authors are written out here, independently of the package, since no package on PyPI has them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from litetext.tokenizer.bpe import TokenBatch

State = dict[str, Tensor]
PROMPTS = [
    "dog",
    "a café crème beside naïve señor Ångström",
    "😀 smiling face 🚗 red car",
    "the small brown dog with a red collar that lies to the left of the second chair from the window in the old "
    "kitchen of my grandmother's house near the sea",
    "",
    "&lt;b&gt; 100% cotton t-shirts, size XL",
]


@dataclass(frozen=True)
class Size:
    """Sizes of a synthetic encoder; blocks counts the RepMixer blocks, first and last, if there are any."""

    width: int
    heads: int
    blocks: int
    mixers: bool = False
    rows: int = 77
    vocabulary: int = 49_408

    @property
    def text_config(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "projection_dim": self.width,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.rows,
            "hidden_act": "gelu",
        }


TINY = Size(32, 4, 4, mixers=True)
REAL = {"s0": Size(512, 8, 6, mixers=True), "s1": Size(512, 8, 12), "l": Size(768, 12, 12)}
TEACHER = Size(1024, 16, 24, rows=32)
TINY_TEACHER = Size(32, 4, 3, rows=32)


def uninitialized() -> AbstractContextManager[None]:
    from transformers.initialization import no_init_weights

    return no_init_weights()


@torch.no_grad()
def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that hide no mistake: no ones, no zeros, every tensor different."""
    random = torch.Generator().manual_seed(seed)
    for number, (name, tensor) in enumerate(module.state_dict().items()):
        leaf = name.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            tensor.fill_(number + 3)
        elif leaf == "running_var":
            tensor.uniform_(0.5, 2.0, generator=random)
        elif leaf == "layer_scale" or (leaf == "weight" and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=random)
        elif tensor.ndim >= 2 and "embedding" not in name:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5, generator=random)
        else:
            tensor.normal_(0.0, 0.3, generator=random)
    return module.eval()


@dataclass(frozen=True, eq=False)
class Student:
    """`Sam3LiteTextTextModel` and SAM3's projector after it."""

    size: Size
    model: nn.Module
    projector: nn.Linear

    @classmethod
    def make(cls, size: Size, seed: int = 0) -> "Student":
        from transformers.models.sam3_lite_text.configuration_sam3_lite_text import Sam3LiteTextTextConfig
        from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextModel

        config = Sam3LiteTextTextConfig(**size.text_config, use_repmixer_blocks=size.mixers)
        with uninitialized():
            model, projector = Sam3LiteTextTextModel(config), nn.Linear(size.width, 256)
        return cls(size, fill(model, seed), fill(projector, seed + 1))

    @torch.no_grad()
    def features(self, batch: TokenBatch, how: str) -> Tensor:
        """What the authors' code computes: all tokens, no mask; the model itself interpolates to another length."""
        table = self.model.embeddings.position_embedding
        whole = table.position_embedding.data
        if how == "slice":
            table.position_embedding.data = whole[:, :, : batch.context_length]
        try:
            return self.projector(self.model(input_ids=torch.from_numpy(batch.ids)).last_hidden_state)
        finally:
            table.position_embedding.data = whole

    def huggingface(self) -> State:
        return prefixed("text_encoder.", self.model.state_dict()) | prefixed(
            "text_projection.", self.projector.state_dict()
        )

    def upstream(self, rows: int | None = None) -> State:
        """Names of SAM3-LiteText's authors, `detector.` and all; the position table cut to some rows."""
        state = prefixed("encoder.", self.mobileclip()) | prefixed("projector.", self.projector.state_dict())
        table = "encoder.positional_embedding.pos_embed.pos_embed"
        state[table] = state[table][:, :, :rows].clone()
        return prefixed("detector.backbone.language_backbone.", state)

    def mobileclip(self) -> State:
        """Names of Apple's text encoder, without any prefix."""
        state = dict(self.model.state_dict())
        ours = {
            "embedding_layer.weight": state["embeddings.token_embedding.weight"],
            "positional_embedding.pos_embed.pos_embed": state["embeddings.position_embedding.position_embedding"],
            "final_layer_norm.weight": state["final_layer_norm.weight"],
            "final_layer_norm.bias": state["final_layer_norm.bias"],
            "projection_layer": state["projection.weight"].T.contiguous(),
        }
        for number in range(self.size.blocks):
            block = {
                key.removeprefix(f"layers.{number}."): value
                for key, value in state.items()
                if key.startswith(f"layers.{number}.")
            }
            renamed = _mobileclip_mixer(block) if "layer_scale" in block else _mobileclip_encoder(block)
            ours |= prefixed(f"transformer.{number}.", renamed)
        return ours


def _mobileclip_encoder(block: Mapping[str, Tensor]) -> State:
    renamed: State = {}
    for leaf in ("weight", "bias"):
        thirds = [block[f"self_attn.{third}_proj.{leaf}"] for third in "qkv"]
        renamed |= {
            f"pre_norm_mha.0.{leaf}": block[f"layer_norm1.{leaf}"],
            f"pre_norm_mha.1.qkv_proj.{leaf}": torch.cat(thirds),
            f"pre_norm_mha.1.out_proj.{leaf}": block[f"self_attn.out_proj.{leaf}"],
            f"pre_norm_ffn.0.{leaf}": block[f"layer_norm2.{leaf}"],
            f"pre_norm_ffn.1.{leaf}": block[f"mlp.fc1.{leaf}"],
            f"pre_norm_ffn.4.{leaf}": block[f"mlp.fc2.{leaf}"],
        }
    return renamed


def _mobileclip_mixer(block: Mapping[str, Tensor]) -> State:
    prefixes = {
        "token_mixer.reference_batchnorm": "token_mixer.norm.rbr_skip",
        "token_mixer.mixer.batchnorm_skip": "token_mixer.mixer.rbr_skip",
        "token_mixer.mixer.conv": "token_mixer.mixer.rbr_conv.0.conv",
        "token_mixer.mixer.batchnorm_conv": "token_mixer.mixer.rbr_conv.0.bn",
        "conv_feed_forward.depthwise_conv": "convffn.conv.conv",
        "conv_feed_forward.depthwise_batchnorm": "convffn.conv.bn",
        "conv_feed_forward.mlp.fc1": "convffn.fc1",
        "conv_feed_forward.mlp.fc2": "convffn.fc2",
    }
    renamed: State = {}
    for key, value in block.items():
        parent, _, leaf = key.rpartition(".")
        renamed[f"{prefixes[parent]}.{leaf}" if leaf != "layer_scale" else key] = value
    return renamed


@dataclass(frozen=True, eq=False)
class Teacher:
    """`transformers`' CLIP text tower and SAM3's projector after it."""

    size: Size
    model: nn.Module
    projector: nn.Linear

    @classmethod
    def make(cls, size: Size, seed: int = 0) -> "Teacher":
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        config = CLIPTextConfig(**size.text_config | {"projection_dim": size.width // 2})
        with uninitialized():
            model, projector = CLIPTextModelWithProjection(config), nn.Linear(size.width, 256)
        return cls(size, fill(model, seed), fill(projector, seed + 1))

    @torch.no_grad()
    def features(self, batch: TokenBatch) -> Tensor:
        return self.projector(self.model(input_ids=torch.from_numpy(batch.ids)).last_hidden_state)

    def huggingface(self, root: str = "detector_model.") -> State:
        state = prefixed("text_encoder.", self.model.state_dict())
        return prefixed(root, state | prefixed("text_projection.", self.projector.state_dict()))

    def upstream(self, root: str = "detector.") -> State:
        """Names of Meta's file, as OpenCLIP's text tower has them, filled by `transformers`' weights."""
        state = dict(self.model.state_dict())
        tower = {
            "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
            "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
            "ln_final.weight": state["text_model.final_layer_norm.weight"],
            "ln_final.bias": state["text_model.final_layer_norm.bias"],
            "text_projection": state["text_projection.weight"].T.contiguous(),
        }
        names = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
        names |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
        for number in range(self.size.blocks):
            theirs, ours = f"text_model.encoder.layers.{number}", f"transformer.resblocks.{number}"
            for leaf in ("weight", "bias"):
                thirds = [state[f"{theirs}.self_attn.{third}_proj.{leaf}"] for third in "qkv"]
                tower[f"{ours}.attn.in_proj_{leaf}"] = torch.cat(thirds)
                tower |= {f"{ours}.{new}.{leaf}": state[f"{theirs}.{old}.{leaf}"] for old, new in names.items()}
        both = prefixed("encoder.", tower) | prefixed("resizer.", self.projector.state_dict())
        return prefixed(f"{root}backbone.language_backbone.", both)


def openclip_tower(size: Size, *, causal: bool) -> nn.Module:
    """OpenCLIP's own text tower, with weights."""
    from open_clip.transformer import TextTransformer

    tower = TextTransformer(
        context_length=size.rows,
        vocab_size=size.vocabulary,
        width=size.width,
        heads=size.heads,
        layers=size.blocks,
        output_dim=size.width,
        no_causal_mask=not causal,
        output_tokens=True,
    )
    return fill(tower)


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in state.items()}


IMAGE = {
    "detector.backbone.vision_backbone.trunk.pos_embed": torch.ones(1, 5, 8),
    "detector.transformer.decoder.layers.0.norm1.weight": torch.ones(3),
    "tracker.maskmem_tpos_enc": torch.zeros(2),
}
HF_IMAGE = {"vision_encoder.backbone.layers.0.layer_norm1.weight": torch.ones(4), "detr_encoder.x": torch.ones(2)}
APPLE_IMAGE = {"image_encoder.model.head.proj": torch.ones(2, 2), "logit_scale": torch.tensor(4.6)}


def save_pt(state: Mapping[str, Tensor], path: Path, *, wrapped: bool = True) -> Path:
    torch.save({"model": dict(state)} if wrapped else dict(state), path)
    return path


def save_safetensors(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path, metadata or {"format": "pt"})
    return path


def save_shards(state: Mapping[str, Tensor], folder: Path, shards: int = 3) -> Path:
    """A folder as `transformers` writes big models: shards and their index."""
    import json

    names = sorted(state)
    homes = {name: f"model-{index % shards + 1:05d}-of-{shards:05d}.safetensors" for index, name in enumerate(names)}
    for file in set(homes.values()):
        save_safetensors({name: state[name] for name in names if homes[name] == file}, folder / file)
    text = json.dumps({"metadata": {"total_size": 0}, "weight_map": homes})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return folder


def save_sparse(shapes: Mapping[str, tuple[int, ...]], path: Path, counters: Sequence[str] = ()) -> Path:
    """A safetensors file of float32 zeros that takes no room on the disk, whatever its size; counters are int64."""
    import json
    from math import prod

    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    for name in counters:
        start, end = end, end + 8
        header[name] = {"dtype": "I64", "shape": [], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def of_type(state: Mapping[str, Tensor], dtype: torch.dtype) -> State:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


def with_image(state: Mapping[str, Tensor]) -> State:
    return {**IMAGE, **state}


Writer = Callable[[Path], Path]


def every_format(student: Student, teacher: Teacher) -> dict[str, Writer]:
    """A writer for each of the eight formats, and for their usual variations; each takes a folder."""
    clip = prefixed("text_encoder.", student.mobileclip())
    openclip = Size(student.size.width, student.size.heads, 3, vocabulary=student.size.vocabulary)
    return {
        "litetext77": lambda d: save_pt(with_image(student.upstream()), d / "efficient_sam3_ctx16.pt"),
        "litetext16": lambda d: save_pt(with_image(student.upstream(16)), d / "sam3_litetext_ctx16.pt"),
        "sam3": lambda d: save_pt(with_image(teacher.upstream()), d / "sam3.pt", wrapped=False),
        "sam3-wrapped": lambda d: save_pt(with_image(teacher.upstream("")), d / "sam3.pt"),
        "hf-sam3": lambda d: save_safetensors({**HF_IMAGE, **teacher.huggingface()}, d / "model.safetensors"),
        "hf-sam3-image": lambda d: save_safetensors({**HF_IMAGE, **teacher.huggingface("")}, d / "model.safetensors"),
        "hf-litetext": lambda d: save_safetensors({**HF_IMAGE, **student.huggingface()}, d / "model.safetensors"),
        "mobileclip": lambda d: save_pt({**APPLE_IMAGE, **clip}, d / "mobileclip_s0.pt", wrapped=False),
        "openclip": lambda d: save_pt(
            {
                **prefixed("text.", openclip_tower(openclip, causal=False).state_dict()),
                "logit_scale": torch.tensor(1.0),
            },
            d / "mobileclip2_l.pt",
            wrapped=False,
        ),
    }
