"""How files call and shape the tensors of a text encoder, and the formats of checkpoints as rows of one table.

"Ours" are the names of `TextStudent`'s parameters (the teacher's are alike),
besides `unused_projection`. "Theirs" are the names in a file below a root, which is whatever stands before them there
("detector.", "model.detector.", nothing, ...).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litetext.checkpoints.schema import NORM_LEAVES, UNUSED, Shape, block_shapes, with_quantized
from litetext.checkpoints.tensors import listed
from litetext.encoders.config import BlockKind, Kind
from litetext.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

BACKBONE = "backbone.language_backbone."
Blocks = Mapping[BlockKind, tuple["Rule", ...]]


@dataclass(frozen=True)
class Change:
    """How a tensor of ours changes to tensors of a file (`save`) and back (`load`), exactly; and the file's shapes."""

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
TRANSPOSED = Change(lambda s: (s[::-1],), lambda t: t[0].T, lambda x: (x.T,))
# Queries, keys and values apart in the file, one after another in ours.
THIRDS = Change(lambda s: ((s[0] // 3, *s[1:]),) * 3, _join, lambda x: tuple(x.chunk(3)))


@dataclass(frozen=True)
class Rule:
    """One tensor of ours, its tensor or tensors in a file below the root, and the change between them.

    ``{n}`` stands for the number of a block.
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


def _encoder(theirs: str, *names: str) -> tuple[Rule, ...]:
    """Rules of an encoder block, by a file's names of its norms and linear layers; {qkv} stands for three tensors."""
    rules: list[Rule] = []
    for part, name in zip(("attention_norm", "qkv", "out", "ffn_norm", "fc1", "fc2"), names, strict=True):
        for leaf in ("weight", "bias"):
            path = f"{theirs}.{name}{leaf}" if name.endswith("_") else f"{theirs}.{name}.{leaf}"
            thirds = tuple(path.replace("{qkv}", third) for third in "qkv") if "{qkv}" in path else (path,)
            rules.append(Rule(f"blocks.{{n}}.{part}.{leaf}", thirds, SAME if len(thirds) == 1 else THIRDS))
    return tuple(rules)


def _mixer(theirs: str, *names: str) -> tuple[Rule, ...]:
    """Rules of a RepMixer block, by a file's names of its norms, convolutions and feed-forward."""
    norm, skip, conv, conv_norm, ffn_conv, ffn_norm, mlp = (f"{theirs}.{name}" for name in names)
    block = "blocks.{n}"
    return (
        *same(f"{block}.mixer_norm", norm, NORM_LEAVES),
        *same(f"{block}.mixer_skip", skip, NORM_LEAVES),
        Rule(f"{block}.mixer_conv.weight", (f"{conv}.weight",), TAPS),
        *same(f"{block}.mixer_conv_norm", conv_norm, NORM_LEAVES),
        Rule(f"{block}.mixer_scale", (f"{theirs}.token_mixer.layer_scale",), SCALE),
        Rule(f"{block}.ffn_conv.weight", (f"{ffn_conv}.weight",), TAPS),
        *same(f"{block}.ffn_conv_norm", ffn_norm, NORM_LEAVES),
        Rule(f"{block}.fc1.weight", (f"{mlp}.fc1.weight",), POINTS),
        Rule(f"{block}.fc1.bias", (f"{mlp}.fc1.bias",)),
        Rule(f"{block}.fc2.weight", (f"{mlp}.fc2.weight",), POINTS),
        Rule(f"{block}.fc2.bias", (f"{mlp}.fc2.bias",)),
        Rule(f"{block}.ffn_scale", (f"{theirs}.layer_scale",), SCALE),
    )


def mobileclip_stem(root: str) -> tuple[Rule, ...]:
    """What is not in a block, as Apple's MobileCLIP and the authors of SAM3-LiteText name it."""
    return (
        Rule("token_table.weight", (f"{root}embedding_layer.weight",)),
        Rule("positions", (f"{root}positional_embedding.pos_embed.pos_embed",), TABLE),
        *same("final_norm", f"{root}final_layer_norm"),
        Rule(UNUSED, (f"{root}projection_layer",)),
    )


def mobileclip_blocks(root: str) -> Blocks:
    """Blocks as Apple's MobileCLIP and the authors of SAM3-LiteText name them."""
    theirs = f"{root}transformer.{{n}}"
    return {
        "encoder": _encoder(
            theirs, "pre_norm_mha.0", "pre_norm_mha.1.qkv_proj", "pre_norm_mha.1.out_proj",
            "pre_norm_ffn.0", "pre_norm_ffn.1", "pre_norm_ffn.4",
        ),
        "mixer": _mixer(
            theirs, "token_mixer.norm.rbr_skip", "token_mixer.mixer.rbr_skip", "token_mixer.mixer.rbr_conv.0.conv",
            "token_mixer.mixer.rbr_conv.0.bn", "convffn.conv.conv", "convffn.conv.bn", "convffn",
        ),
    }  # fmt: skip


def openclip_stem(root: str) -> tuple[Rule, ...]:
    """What is not in a block, as OpenCLIP and SAM3 name it."""
    return (
        Rule("token_table.weight", (f"{root}token_embedding.weight",)),
        Rule("positions", (f"{root}positional_embedding",)),
        *same("final_norm", f"{root}ln_final"),
        Rule(UNUSED, (f"{root}text_projection",)),
    )


def openclip_blocks(root: str) -> Blocks:
    """Blocks as OpenCLIP and SAM3 name them."""
    names = ("ln_1", "attn.in_proj_", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    return {"encoder": _encoder(f"{root}transformer.resblocks.{{n}}", *names)}


def transformers_tower(root: str) -> tuple[Rule, ...]:
    """What of `transformers`' CLIP text tower is not in a block."""
    return (
        Rule("token_table.weight", (f"{root}embeddings.token_embedding.weight",)),
        Rule("positions", (f"{root}embeddings.position_embedding.weight",)),
        *same("final_norm", f"{root}final_layer_norm"),
    )


def transformers_encoder(theirs: str) -> tuple[Rule, ...]:
    """An encoder block as `transformers` names it, in CLIP and in SAM3-LiteText."""
    names = ("layer_norm1", "self_attn.{qkv}_proj", "self_attn.out_proj", "layer_norm2", "mlp.fc1", "mlp.fc2")
    return _encoder(theirs, *names)


def transformers_mixer(theirs: str) -> tuple[Rule, ...]:
    """A RepMixer block as `transformers` names it, in SAM3-LiteText."""
    return _mixer(
        theirs, "token_mixer.reference_batchnorm", "token_mixer.mixer.batchnorm_skip", "token_mixer.mixer.conv",
        "token_mixer.mixer.batchnorm_conv", "conv_feed_forward.depthwise_conv",
        "conv_feed_forward.depthwise_batchnorm", "conv_feed_forward.mlp",
    )  # fmt: skip


def own_blocks() -> Blocks:
    """Blocks by our own names, those of quantized layers among them."""
    kinds: tuple[BlockKind, ...] = ("encoder", "mixer", "folded")
    return {
        kind: tuple(
            Rule(f"blocks.{{n}}.{name}", (f"blocks.{{n}}.{name}",))
            for plain in block_shapes(kind, 1)
            for name in with_quantized(plain)
        )
        for kind in kinds
    }


@dataclass(frozen=True)
class Format:
    """A format of checkpoints: how its names begin, and rules of what is not in a block and of each kind of block."""

    name: str
    title: str
    family: str  # what `litetext convert --to` calls it; "" where it cannot be written
    kind: Kind | None  # None where the file says which
    scopes: tuple[str, ...]  # how names of the text side begin below the root; every name there must be known
    stem: tuple[Rule, ...]  # the first is the token table, by which the format is recognized
    blocks: Blocks
    ignored: tuple[str, ...] = ()  # names in its scopes that carry nothing
    root: str = ""  # what `litetext convert` writes before the names
    has_projector: bool = True  # to SAM3's decoder

    @property
    def anchor(self) -> str:
        """The name of the token table below the root."""
        return self.stem[0].theirs[0]

    def rules(self, kinds: Sequence[BlockKind]) -> list[Rule]:
        """The rule of every tensor of an encoder with these blocks; those of kinds that it cannot hold are left out."""
        blocks = [rule.numbered(n) for n, kind in enumerate(kinds) for rule in self.blocks.get(kind, ())]
        return [*self.stem, *blocks]


FORMATS = (
    Format(
        name="litetext",
        title="LiteText's own",
        family="litetext",
        kind=None,
        scopes=("",),
        stem=(
            *same("token_table", "token_table", ("weight", "scale", "up.weight")),
            *(Rule(name, (name,)) for name in ("positions", UNUSED)),
            *same("final_norm", "final_norm"),
            *same("projector", "projector", ("weight", "scale", "bias", "input_range")),
        ),
        blocks=own_blocks(),
    ),
    Format(
        name="sam3-litetext",
        title="SAM3-LiteText of its authors (efficientsam3)",
        family="upstream",
        kind="student",
        scopes=(BACKBONE,),
        stem=(*mobileclip_stem(f"{BACKBONE}encoder."), *same("projector", f"{BACKBONE}projector")),
        blocks=mobileclip_blocks(f"{BACKBONE}encoder."),
        root="detector.",
    ),
    Format(
        name="sam3",
        title="SAM3 of Meta (sam3.pt)",
        family="upstream",
        kind="teacher",
        scopes=(BACKBONE,),
        stem=(*openclip_stem(f"{BACKBONE}encoder."), *same("projector", f"{BACKBONE}resizer")),
        blocks=openclip_blocks(f"{BACKBONE}encoder."),
        root="detector.",
    ),
    Format(
        name="sam3-litetext-transformers",
        title="SAM3-LiteText of transformers",
        family="huggingface",
        kind="student",
        scopes=("text_encoder.", "text_projection."),
        stem=(
            Rule("token_table.weight", ("text_encoder.embeddings.token_embedding.weight",)),
            Rule("positions", ("text_encoder.embeddings.position_embedding.position_embedding",), TABLE),
            *same("final_norm", "text_encoder.final_layer_norm"),
            Rule(UNUSED, ("text_encoder.projection.weight",), TRANSPOSED),
            *same("projector", "text_projection"),
        ),
        blocks={
            "encoder": transformers_encoder("text_encoder.layers.{n}"),
            "mixer": transformers_mixer("text_encoder.layers.{n}"),
        },
    ),
    Format(
        name="sam3-transformers",
        title="SAM3 of transformers (facebook/sam3)",
        family="huggingface",
        kind="teacher",
        scopes=("text_encoder.", "text_projection."),
        stem=(
            *transformers_tower("text_encoder.text_model."),
            Rule(UNUSED, ("text_encoder.text_projection.weight",), TRANSPOSED),
            *same("projector", "text_projection"),
        ),
        blocks={"encoder": transformers_encoder("text_encoder.text_model.encoder.layers.{n}")},
        ignored=("text_encoder.text_model.embeddings.position_ids",),
        root="detector_model.",
    ),
    Format(
        name="mobileclip",
        title="MobileCLIP of Apple",
        family="",
        kind="student",
        scopes=("text_encoder.",),
        stem=mobileclip_stem("text_encoder."),
        blocks=mobileclip_blocks("text_encoder."),
        has_projector=False,
    ),
    Format(
        name="openclip",
        title="MobileCLIP in OpenCLIP",
        family="",
        kind="student",
        scopes=("text.",),
        stem=openclip_stem("text."),
        blocks=openclip_blocks("text."),
        has_projector=False,
    ),
)
"""Every format that is recognized."""

TOWER = Format(
    name="transformers-clip",
    title="the CLIP text tower of transformers",
    family="",
    kind="teacher",
    scopes=("",),
    stem=transformers_tower(""),
    blocks={"encoder": transformers_encoder("encoder.layers.{n}")},
    has_projector=False,
)
"""Not a file but the module in `TextTeacher`; its names vary by a root too."""

FAMILIES = tuple(dict.fromkeys(row.family for row in FORMATS if row.family))
"""What can be written."""


def find_format(names: Iterable[str], where: str, formats: Sequence[Format] = FORMATS) -> tuple[Format, str]:
    """The format that tensors are named in, and the root before their names."""
    names = list(names)
    matches = [
        (row, name.removesuffix(row.anchor))
        for name in names
        for row in formats
        if f".{name}".endswith(f".{row.anchor}")
    ]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        what = f"none of the known text encoders is in it; it has: {listed(names) or 'no tensors'}"
        raise EncoderError(what, where=where, hint="see docs/reference/checkpoints.md for the formats")
    roots = listed(f"{root}{row.anchor}" for row, root in matches)
    raise EncoderError(f"{len(matches)} text encoders are in it ({roots})", where=where, hint="keep one of them")


def writable(family: str, kind: Kind) -> Format:
    """The format of a family (`FAMILIES`) that holds a student or the teacher."""
    for row in FORMATS:
        if row.family == family and row.kind in {kind, None}:
            return row
    raise EncoderError(f"no format is called '{family}'", hint=f"give {', '.join(FAMILIES)}")
