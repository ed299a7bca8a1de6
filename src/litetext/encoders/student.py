"""The student: a small text encoder in plain PyTorch, that SAM3 reads in place of its own."""

import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from litetext.encoders.config import EncoderConfig
from litetext.encoders.encoder import ModuleEncoder, save_tensors
from litetext.encoders.layers import (
    EncoderBlock,
    FloatLayerNorm,
    FoldedMixerBlock,
    MakeLinear,
    MixerBlock,
    PackedTokens,
    token_table,
)
from litetext.encoders.quantized import QuantizedLinear, QuantizedTable
from litetext.errors import OptionError
from litetext.storage import atomic_folder, to_json, write_text

FIRST_SCALE = 0.1  # of the residual branches of RepMixer blocks; as CaiT has it in shallow models (2103.17239)


class TextStudent(nn.Module):
    """Token ids to features: token table plus positions, blocks, final norm, projector.

    Sources: MobileCLIP's text encoder (arXiv 2311.17049, section 4), SAM3-LiteText's projector (arXiv 2602.12173).

    Parameters: ``token_table.weight`` [V, C], or [V, r] with ``token_table.up.weight`` [C, r]; ``positions`` [T, C], T
    the context; ``blocks.{i}``, RepMixer blocks first and last; ``final_norm``; ``projector`` (C -> D). Every one of
    them is used. What the configuration says is int8 or int4 is integers, in buffers, as `QuantizedLinear` and
    `QuantizedTable` have them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        make_linear: MakeLinear = nn.Linear
        if config.weights == "int8":
            make_linear = partial(QuantizedLinear, activations=config.activations)
        mixer = partial(FoldedMixerBlock, make_linear=make_linear) if config.folded else MixerBlock
        ends = config.mixer_blocks // 2
        sizes = config.vocabulary, config.rank, config.width
        self.token_table = token_table(*sizes) if config.table == "float" else QuantizedTable(*sizes, config.table)
        self.positions = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.blocks = nn.ModuleList(
            [mixer(config.width) for _ in range(ends)]
            + [EncoderBlock(config.width, config.heads, make_linear) for _ in range(config.encoder_blocks)]
            + [mixer(config.width) for _ in range(ends)]
        )
        self.final_norm = FloatLayerNorm(config.width)
        self.projector = make_linear(config.width, config.output)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features [B, L, D] of ids int64 [B, L] and a mask bool [B, L], True at valid tokens.

        With attended padding the mask is not read, and L must be the context length. With masked padding L is at most
        that, and features at valid tokens do not depend on it, nor on what stands at padding. Features at padding mean
        nothing.
        """
        self._check(ids, mask)
        attended = mask if self.config.padding == "masked" else None
        vectors = self.token_table(ids).to(self.positions.dtype)  # those of integers are float32
        x = vectors + self.positions[: ids.shape[1]]
        if attended is not None and self.training and not self.config.folded:
            return self._train_rows(x, PackedTokens.of(attended))
        for block in self.blocks:
            x = block(x, attended)
        features: Tensor = self.projector(self.final_norm(x))
        return features

    def _train_rows(self, x: Tensor, places: PackedTokens) -> Tensor:
        """The same without computing anything of padding, where the features are zero."""
        rows = places.rows(x)
        for block in self.blocks:
            rows = cast("EncoderBlock | MixerBlock", block).forward_rows(rows, places)
        return places.batch(self.projector(self.final_norm(rows)))

    def _check(self, ids: Tensor, mask: Tensor) -> None:
        if ids.ndim != 2 or ids.shape != mask.shape:
            raise OptionError(f"ids {list(ids.shape)} and mask {list(mask.shape)} are not both [B, L]")
        length, context_length, whole = ids.shape[1], self.config.context_length, self.config.padding == "attended"
        # In this order: torch.export can leave L open only where nothing asks whether it is the context.
        if length > context_length or (whole and length < context_length):
            hint = f"give {'exactly' if whole else 'at most'} its context of {context_length}"
            raise OptionError(f"{length} tokens for a student with {self.config.padding} padding", hint=hint)

    def fold(self) -> "TextStudent":
        """A copy for inference, in eval mode, whose RepMixer blocks are folded in float64; the features stay."""
        folded = copy.deepcopy(self).eval()
        folded.config = replace(self.config, folded=True)
        folded.blocks = nn.ModuleList(
            block.fold() if isinstance(block, MixerBlock) else block for block in folded.blocks
        )
        return folded


@dataclass(frozen=True, eq=False, repr=False)
class StudentEncoder(ModuleEncoder):
    """A student as a `TextEncoder`, which can be saved."""

    module: TextStudent

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `load_encoder` and the Hugging Face hub take; one with other files in it is refused."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        names = {"config.json", "model.safetensors"}
        with atomic_folder(Path(folder), is_ours=lambda old: {path.name for path in old.iterdir()} == names) as work:
            save_tensors(tensors, work / "model.safetensors", self.module.config.metadata())
            # The hub wants this file; what `load_encoder` reads is the configuration beside the weights.
            content = {"model_type": "sam3_litetext_student", **asdict(self.module.config)}
            write_text(work / "config.json", to_json(content) + "\n")


def build_student(config: EncoderConfig, generator: torch.Generator) -> TextStudent:
    """A student with random weights, on the CPU in float32, in training mode.

    Weights are normal with variance 1 / fan-in (vectors of tokens and positions 1 / C). Those that write into the
    residual stream are divided by the square root of the number of branches besides, so that the stream does not grow
    with depth (GPT-2, section 2.3). Biases are 0, norms the identity, scales of RepMixer branches 0.1. The generator,
    on the CPU, is the only source of randomness.
    """
    if config.quantized or config.folded:
        kind = "quantized" if config.quantized else "folded"
        raise OptionError(f"random weights for a {kind} student", hint="build it, train it, then fold and quantize it")
    with torch.device("meta"):  # elsewhere PyTorch's modules draw from its global generator
        student = TextStudent(config)
    student.to_empty(device="cpu")
    branches = 2 * len(student.blocks)
    with torch.no_grad():
        for name, module in student.named_modules():
            if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Embedding | nn.Linear | nn.Conv1d):
                # Rows of a factorized token table have variance 1 / r, so that their products have 1 / C.
                inputs = len(module.weight) if name == "token_table.up" else module.weight[0].numel()
                inputs *= branches if name.endswith((".out", ".fc2")) else 1
                module.weight.normal_(0.0, inputs**-0.5, generator=generator)
        for name, parameter in student.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif name.endswith("_scale"):
                parameter.fill_(FIRST_SCALE)
        student.positions.normal_(0.0, config.width**-0.5, generator=generator)
    return student
