"""Names and shapes of a text encoder's tensors, from its sizes alone: what a checkpoint must hold, without PyTorch.

The names are ours, those of [`TextStudent`][litetext.encoders.student.TextStudent]. The teacher's tensors are those of
a student that has encoder blocks only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from litetext.encoders.config import KERNEL, PRESETS, Activations, Preset, Table, Weights, groups_of

Kind = Literal["encoder", "mixer", "folded"]
Shape = tuple[int, ...]

TABLE = "token_table.weight"
UNUSED = "unused_projection"
NORM_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BUFFERS = NORM_LEAVES[2:]  # state of a batch norm that no gradient changes, and that nobody counts as parameters
FEED_FORWARD = 4  # feed-forward width over block width
QUANTISED_LEAVES = ("scale", "input_range")  # what makes numbers of integers; no parameters either
PACKED = "uint8"  # of a byte that holds two int4 numbers
LINEAR_LAYERS = ("qkv", "out", "fc1", "fc2", "projector")  # those that can be quantized


@dataclass(frozen=True)
class Sizes:
    """Sizes of a text encoder, as the shapes in its file tell them.

    Attributes:
        width: channels C of a token.
        vocabulary: rows V of the token table.
        rows: rows T of the position table.
        kinds: kind of each block.
        output: width D after the projector; None without a projector.
        projection: columns P of the projection that SAM3 never reads; None without one.
        rank: rank r of a factorized token table; None for a whole one.
        weights: number type of the linear layers' weights.
        activations: number type of what these layers read.
        table: number type of the token table.
    """

    width: int
    vocabulary: int
    rows: int
    kinds: tuple[Kind, ...]
    output: int | None
    projection: int | None
    rank: int | None = None
    weights: Weights = "float"
    activations: Activations = "float"
    table: Table = "float"

    @property
    def mixer_blocks(self) -> int:
        """RepMixer blocks, folded or not."""
        return len(self.kinds) - self.kinds.count("encoder")

    @property
    def symmetric(self) -> bool:
        """Whether the RepMixer blocks are of one kind, half of them before and half after the encoder blocks."""
        ends = self.mixer_blocks // 2
        inner = self.kinds[ends : len(self.kinds) - ends]
        return set(inner) <= {"encoder"} and len(set(self.kinds) - {"encoder"}) < 2

    def preset(self, *, causal: bool) -> Preset | None:
        """The row of `PRESETS` of this width, rank and these blocks, whatever the rows of the tables."""
        wanted = (self.width, self.rank, self.kinds.count("encoder"), self.mixer_blocks, causal)
        for row in PRESETS.values():
            if (row.width, row.rank, row.encoder_blocks, row.mixer_blocks, row.causal) == wanted and self.symmetric:
                return row
        return None


def tensor_shapes(sizes: Sizes) -> dict[str, Shape]:
    """Every tensor of an encoder by our name, in the order of its module; the unused projection last."""
    width = sizes.width
    shapes: dict[str, Shape] = {
        "positions": (sizes.rows, width),
        TABLE: (sizes.vocabulary, width if sizes.rank is None else sizes.rank),
    }
    if sizes.rank is not None:
        shapes["token_table.up.weight"] = (width, sizes.rank)
    for number, kind in enumerate(sizes.kinds):
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in _block(kind, width).items()}
    shapes |= _norm("final_norm", width)
    if sizes.output is not None:
        shapes |= _linear("projector", width, sizes.output)
    if sizes.projection is not None:
        shapes[UNUSED] = (width, sizes.projection)
    return dict(_quantized(sizes, shapes))


def exact_types(sizes: Sizes) -> dict[str, str]:
    """Number types of those tensors that must have one; every other is floating point of any type."""
    types = {name: "float32" for name in tensor_shapes(sizes) if name.rpartition(".")[2] in QUANTISED_LEAVES}
    weights = [name.removesuffix("scale") + "weight" for name in types if name.endswith("scale")]
    types |= dict.fromkeys(weights, "int8")
    if sizes.table == "int4":
        types[TABLE] = PACKED
    return types


def part_of(name: str) -> str:
    """The part that a tensor of ours belongs to, as `Preset.parts` names it."""
    return name.split(".", maxsplit=1)[0]


def is_parameter(name: str) -> bool:
    """Whether a tensor of ours was trained: batch norm's running state was not, nor the scales of integers."""
    return name.rpartition(".")[2] not in (*BUFFERS, *QUANTISED_LEAVES)


def _quantized(sizes: Sizes, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    """The tensors with the integers in place of what is quantized."""
    columns = sizes.width if sizes.rank is None else sizes.rank
    for name, shape in shapes.items():
        layer, _, leaf = name.rpartition(".")
        is_linear = sizes.weights == "int8" and layer.rpartition(".")[2] in LINEAR_LAYERS
        if name == TABLE and sizes.table == "int4":
            yield from ((name, (shape[0], columns // 2)), (f"{layer}.scale", (shape[0], groups_of(columns))))
            continue
        yield name, shape
        if (name == TABLE and sizes.table == "int8") or (is_linear and leaf == "weight"):
            yield f"{layer}.scale", shape[:1]
        if is_linear and leaf == "bias" and sizes.activations == "int8":
            yield f"{layer}.input_range", (2,)


def _block(kind: Kind, width: int) -> Mapping[str, Shape]:
    return {"encoder": _encoder, "mixer": _mixer, "folded": _folded}[kind](width)


def _encoder(width: int) -> dict[str, Shape]:
    return {
        **_norm("attention_norm", width),
        **_linear("qkv", width, 3 * width),
        **_linear("out", width, width),
        **_norm("ffn_norm", width),
        **_feed_forward(width),
    }


def _mixer(width: int) -> dict[str, Shape]:
    return {
        "mixer_scale": (width,),
        "ffn_scale": (width,),
        **_batch_norm("mixer_norm", width),
        **_batch_norm("mixer_skip", width),
        "mixer_conv.weight": (width, 1, KERNEL),
        **_batch_norm("mixer_conv_norm", width),
        "ffn_conv.weight": (width, 1, KERNEL),
        **_batch_norm("ffn_conv_norm", width),
        **_feed_forward(width),
    }


def _folded(width: int) -> dict[str, Shape]:
    return {
        "ffn_scale": (width,),
        "mixer_folded.weight": (width, 1, KERNEL),
        "mixer_folded.bias": (width,),
        "ffn_folded.weight": (width, 1, KERNEL),
        "ffn_folded.bias": (width,),
        **_feed_forward(width),
    }


def _feed_forward(width: int) -> dict[str, Shape]:
    return {**_linear("fc1", width, FEED_FORWARD * width), **_linear("fc2", FEED_FORWARD * width, width)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.{leaf}": () if leaf == "num_batches_tracked" else (width,) for leaf in NORM_LEAVES}
