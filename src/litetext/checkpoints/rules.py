"""How files call and shape the tensors of a text encoder: rules from our names to theirs, and exact changes of shape.

"Ours" are the names of [`TextStudent`][litetext.encoders.student.TextStudent]'s parameters (the teacher's are alike),
besides `unused_projection` [C, P], which upstream's files carry and SAM3 never reads. "Theirs" are the names in a file
below a root, which is whatever stands before them there ("detector.", "model.detector.", nothing, ...).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litetext.checkpoints.shapes import NORM_LEAVES, UNUSED, Kind, Shape, Sizes, tensor_shapes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Change:
    """How a tensor of ours changes to tensors of a file and back; both ways are exact.

    Attributes:
        shapes: of the file's tensors, for a shape of ours.
        load: tensors of the file to ours.
        save: ours to tensors of the file.
    """

    shapes: Callable[[Shape], tuple[Shape, ...]]
    load: "Callable[[Sequence[Tensor]], Tensor]"
    save: "Callable[[Tensor], tuple[Tensor, ...]]"


def _join(parts: "Sequence[Tensor]") -> "Tensor":
    import torch

    return torch.cat(list(parts))


SAME = Change(lambda s: (s,), lambda t: t[0], lambda x: (x,))
# [T, C] is [1, 1, T, C], [C] is [C, 1, 1], [D, C] is [D, C, 1, 1], [C, 1, K] is [C, 1, 1, K], [C, P] is [P, C].
TABLE = Change(lambda s: ((1, 1, *s),), lambda t: t[0][0, 0], lambda x: (x[None, None],))
SCALE = Change(lambda s: ((*s, 1, 1),), lambda t: t[0][:, 0, 0], lambda x: (x[:, None, None],))
POINTS = Change(lambda s: ((*s, 1, 1),), lambda t: t[0][:, :, 0, 0], lambda x: (x[:, :, None, None],))
TAPS = Change(lambda s: ((s[0], s[1], 1, s[2]),), lambda t: t[0][:, :, 0], lambda x: (x[:, :, None],))
TURNED = Change(lambda s: (s[::-1],), lambda t: t[0].T, lambda x: (x.T,))
# Queries, keys and values apart in the file, one after another in ours.
THIRDS = Change(lambda s: ((s[0] // 3, *s[1:]),) * 3, _join, lambda x: tuple(x.chunk(3)))


@dataclass(frozen=True)
class Rule:
    """One tensor of ours and what a file calls it; ``{n}`` stands for the number of a block.

    Attributes:
        ours: our name.
        theirs: its tensor or tensors in the file, below the root.
        change: from one to the other.
    """

    ours: str
    theirs: tuple[str, ...]
    change: Change = SAME

    def numbered(self, number: int) -> "Rule":
        """The rule for the block of that number."""
        theirs = tuple(name.replace("{n}", str(number)) for name in self.theirs)
        return Rule(self.ours.replace("{n}", str(number)), theirs, self.change)

    def below(self, root: str) -> "Rule":
        """The rule for a file with that before the names."""
        return Rule(self.ours, tuple(root + name for name in self.theirs), self.change)


def same(ours: str, theirs: str, leaves: Iterable[str] = ("weight", "bias")) -> tuple[Rule, ...]:
    """Rules of tensors that differ by name only."""
    return tuple(Rule(f"{ours}.{leaf}", (f"{theirs}.{leaf}",)) for leaf in leaves)


def _points(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules of a linear layer that the file holds as a 1x1 convolution."""
    return (
        Rule(f"{ours}.weight", (f"{theirs}.weight",), POINTS),
        Rule(f"{ours}.bias", (f"{theirs}.bias",)),
    )


def _thirds(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Rules of queries, keys and values that the file holds apart."""
    return tuple(
        Rule(f"{ours}.{leaf}", tuple(f"{theirs}.{third}_proj.{leaf}" for third in "qkv"), THIRDS)
        for leaf in ("weight", "bias")
    )


def mobileclip_stem(root: str) -> tuple[Rule, ...]:
    """What is not in a block, as Apple's MobileCLIP and the authors of SAM3-LiteText name it."""
    return (
        Rule("token_table.weight", (f"{root}embedding_layer.weight",)),
        Rule("positions", (f"{root}positional_embedding.pos_embed.pos_embed",), TABLE),
        *same("final_norm", f"{root}final_layer_norm"),
        Rule(UNUSED, (f"{root}projection_layer",)),
    )


def mobileclip_blocks(root: str) -> Mapping[Kind, tuple[Rule, ...]]:
    """Blocks as Apple's MobileCLIP and the authors of SAM3-LiteText name them."""
    block, theirs = "blocks.{n}", f"{root}transformer.{{n}}"
    return {
        "encoder": (
            *same(f"{block}.attention_norm", f"{theirs}.pre_norm_mha.0"),
            *same(f"{block}.qkv", f"{theirs}.pre_norm_mha.1.qkv_proj"),
            *same(f"{block}.out", f"{theirs}.pre_norm_mha.1.out_proj"),
            *same(f"{block}.ffn_norm", f"{theirs}.pre_norm_ffn.0"),
            *same(f"{block}.fc1", f"{theirs}.pre_norm_ffn.1"),
            *same(f"{block}.fc2", f"{theirs}.pre_norm_ffn.4"),
        ),
        "mixer": (
            *same(f"{block}.mixer_norm", f"{theirs}.token_mixer.norm.rbr_skip", NORM_LEAVES),
            *same(f"{block}.mixer_skip", f"{theirs}.token_mixer.mixer.rbr_skip", NORM_LEAVES),
            Rule(f"{block}.mixer_conv.weight", (f"{theirs}.token_mixer.mixer.rbr_conv.0.conv.weight",), TAPS),
            *same(f"{block}.mixer_conv_norm", f"{theirs}.token_mixer.mixer.rbr_conv.0.bn", NORM_LEAVES),
            Rule(f"{block}.mixer_scale", (f"{theirs}.token_mixer.layer_scale",), SCALE),
            Rule(f"{block}.ffn_conv.weight", (f"{theirs}.convffn.conv.conv.weight",), TAPS),
            *same(f"{block}.ffn_conv_norm", f"{theirs}.convffn.conv.bn", NORM_LEAVES),
            *_points(f"{block}.fc1", f"{theirs}.convffn.fc1"),
            *_points(f"{block}.fc2", f"{theirs}.convffn.fc2"),
            Rule(f"{block}.ffn_scale", (f"{theirs}.layer_scale",), SCALE),
        ),
    }


def openclip_stem(root: str) -> tuple[Rule, ...]:
    """What is not in a block, as OpenCLIP and SAM3 name it."""
    return (
        Rule("token_table.weight", (f"{root}token_embedding.weight",)),
        Rule("positions", (f"{root}positional_embedding",)),
        *same("final_norm", f"{root}ln_final"),
        Rule(UNUSED, (f"{root}text_projection",)),
    )


def openclip_blocks(root: str) -> Mapping[Kind, tuple[Rule, ...]]:
    """Blocks as OpenCLIP and SAM3 name them."""
    block, theirs = "blocks.{n}", f"{root}transformer.resblocks.{{n}}"
    return {
        "encoder": (
            *same(f"{block}.attention_norm", f"{theirs}.ln_1"),
            Rule(f"{block}.qkv.weight", (f"{theirs}.attn.in_proj_weight",)),
            Rule(f"{block}.qkv.bias", (f"{theirs}.attn.in_proj_bias",)),
            *same(f"{block}.out", f"{theirs}.attn.out_proj"),
            *same(f"{block}.ffn_norm", f"{theirs}.ln_2"),
            *same(f"{block}.fc1", f"{theirs}.mlp.c_fc"),
            *same(f"{block}.fc2", f"{theirs}.mlp.c_proj"),
        )
    }


def transformers_encoder(theirs: str) -> tuple[Rule, ...]:
    """An encoder block as `transformers` names it, in CLIP and in SAM3-LiteText."""
    block = "blocks.{n}"
    return (
        *same(f"{block}.attention_norm", f"{theirs}.layer_norm1"),
        *_thirds(f"{block}.qkv", f"{theirs}.self_attn"),
        *same(f"{block}.out", f"{theirs}.self_attn.out_proj"),
        *same(f"{block}.ffn_norm", f"{theirs}.layer_norm2"),
        *same(f"{block}.fc1", f"{theirs}.mlp.fc1"),
        *same(f"{block}.fc2", f"{theirs}.mlp.fc2"),
    )


def transformers_mixer(theirs: str) -> tuple[Rule, ...]:
    """A RepMixer block as `transformers` names it, in SAM3-LiteText."""
    block = "blocks.{n}"
    return (
        *same(f"{block}.mixer_norm", f"{theirs}.token_mixer.reference_batchnorm", NORM_LEAVES),
        *same(f"{block}.mixer_skip", f"{theirs}.token_mixer.mixer.batchnorm_skip", NORM_LEAVES),
        Rule(f"{block}.mixer_conv.weight", (f"{theirs}.token_mixer.mixer.conv.weight",), TAPS),
        *same(f"{block}.mixer_conv_norm", f"{theirs}.token_mixer.mixer.batchnorm_conv", NORM_LEAVES),
        Rule(f"{block}.mixer_scale", (f"{theirs}.token_mixer.layer_scale",), SCALE),
        Rule(f"{block}.ffn_conv.weight", (f"{theirs}.conv_feed_forward.depthwise_conv.weight",), TAPS),
        *same(f"{block}.ffn_conv_norm", f"{theirs}.conv_feed_forward.depthwise_batchnorm", NORM_LEAVES),
        *_points(f"{block}.fc1", f"{theirs}.conv_feed_forward.mlp.fc1"),
        *_points(f"{block}.fc2", f"{theirs}.conv_feed_forward.mlp.fc2"),
        Rule(f"{block}.ffn_scale", (f"{theirs}.layer_scale",), SCALE),
    )


def own_blocks() -> Mapping[Kind, tuple[Rule, ...]]:
    """Blocks by our own names, those of quantized layers among them."""
    every: tuple[Kind, ...] = ("encoder", "mixer", "folded")
    named: dict[Kind, tuple[Rule, ...]] = {}
    for kind in every:
        shapes = tensor_shapes(Sizes(1, 1, 1, (kind,), None, None, weights="int8", activations="int8"))
        rules = (name.replace("blocks.0.", "blocks.{n}.") for name in shapes if name.startswith("blocks.0."))
        named[kind] = tuple(Rule(name, (name,)) for name in rules)
    return named


def transformers_tower(root: str) -> tuple[Rule, ...]:
    """What of `transformers`' CLIP text tower is not in a block."""
    return (
        Rule("token_table.weight", (f"{root}embeddings.token_embedding.weight",)),
        Rule("positions", (f"{root}embeddings.position_embedding.weight",)),
        *same("final_norm", f"{root}final_layer_norm"),
    )
