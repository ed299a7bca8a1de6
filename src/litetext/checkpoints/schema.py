"""Names and shapes of a text encoder's tensors, by its configuration: what a checkpoint must hold, without PyTorch.

The names are ours, those of `TextStudent`. The teacher's tensors are those of
a student that has encoder blocks only. Parameters are counted from these shapes alone.
"""

from collections.abc import Iterator, Mapping
from math import prod

from litetext.encoders.config import EXPANSION, KERNEL, BlockKind, EncoderConfig, groups_of

Shape = tuple[int, ...]

TABLE = "token_table.weight"
UNUSED = "unused_projection"  # [C, P], which upstream's files carry and SAM3 never reads
PARTS = ("token_table", "positions", "blocks", "final_norm", "projector", UNUSED)
NORM_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BUFFERS = NORM_LEAVES[2:]  # state of a batch norm that no gradient changes, and that is not counted as parameters
QUANTIZED_LEAVES = ("scale", "input_range")  # what makes numbers of integers; no parameters either
PACKED = "uint8"  # of a byte that holds two int4 numbers
LINEAR_LAYERS = ("qkv", "out", "fc1", "fc2", "projector")  # those that can be quantized


def tensor_shapes(config: EncoderConfig, *, projector: bool = True) -> dict[str, Shape]:
    """Every tensor of an encoder by our name, in the order of its module; the unused projection last.

    A MobileCLIP has no projector to SAM3's decoder.
    """
    width = config.width
    shapes: dict[str, Shape] = {
        "positions": (config.context_length, width),
        TABLE: (config.vocabulary, config.table_columns),
    }
    if config.rank is not None:
        shapes["token_table.up.weight"] = (width, config.rank)
    for number, kind in enumerate(config.block_kinds):
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in block_shapes(kind, width).items()}
    shapes |= _norm("final_norm", width)
    if projector:
        shapes |= _linear("projector", width, config.output)
    if config.projection:
        shapes[UNUSED] = (width, config.projection)
    return dict(_quantized(config, shapes))


def exact_types(config: EncoderConfig) -> dict[str, str]:
    """Number types of those tensors that must have one; every other is floating point of any type."""
    types = {name: "float32" for name in tensor_shapes(config) if _leaf(name) in QUANTIZED_LEAVES}
    weights = [name.removesuffix("scale") + "weight" for name in types if name.endswith("scale")]
    types |= dict.fromkeys(weights, "int8")
    if config.table == "int4":
        types[TABLE] = PACKED
    return types


def is_parameter(name: str) -> bool:
    """Whether a tensor of ours was trained: batch norm's running state was not, nor the scales of integers."""
    return _leaf(name) not in (*BUFFERS, *QUANTIZED_LEAVES)


def part_of(name: str) -> str:
    """Which of `PARTS` a tensor of ours belongs to."""
    return name.split(".", maxsplit=1)[0]


def parameters_by_part(config: EncoderConfig) -> dict[str, int]:
    """Parameters of each of `PARTS` as the paper counts them: the unused projection and batch-norm scales are in."""
    parts = dict.fromkeys(PARTS, 0)
    for name, shape in tensor_shapes(config).items():
        if is_parameter(name):
            packed = 2 if name == TABLE and config.table == "int4" else 1
            parts[part_of(name)] += prod(shape) * packed
    return parts


def count_parameters(config: EncoderConfig) -> int:
    """All of `parameters_by_part`."""
    return sum(parameters_by_part(config).values())


def block_shapes(kind: BlockKind, width: int) -> dict[str, Shape]:
    """The tensors of a block, in the order of its module."""
    feed_forward = {**_linear("fc1", width, EXPANSION * width), **_linear("fc2", EXPANSION * width, width)}
    taps = (width, 1, KERNEL)
    if kind == "encoder":
        attention = {**_linear("qkv", width, 3 * width), **_linear("out", width, width)}
        return {**_norm("attention_norm", width), **attention, **_norm("ffn_norm", width), **feed_forward}
    if kind == "folded":
        names = ("mixer_folded", "ffn_folded")
        folded = {f"{name}.{leaf}": shape for name in names for leaf, shape in (("weight", taps), ("bias", (width,)))}
        return {"ffn_scale": (width,), **folded, **feed_forward}
    return {
        "mixer_scale": (width,),
        "ffn_scale": (width,),
        **_batch_norm("mixer_norm", width),
        **_batch_norm("mixer_skip", width),
        "mixer_conv.weight": taps,
        **_batch_norm("mixer_conv_norm", width),
        "ffn_conv.weight": taps,
        **_batch_norm("ffn_conv_norm", width),
        **feed_forward,
    }


def with_quantized(name: str) -> tuple[str, ...]:
    """A tensor's name, and the names of what a quantized layer has besides."""
    layer, _, leaf = name.rpartition(".")
    if layer.rpartition(".")[2] not in LINEAR_LAYERS:
        return (name,)
    return (name, f"{layer}.{'scale' if leaf == 'weight' else 'input_range'}")


def _quantized(config: EncoderConfig, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    """The tensors with the integers in place of what is quantized."""
    for name, shape in shapes.items():
        layer, _, leaf = name.rpartition(".")
        is_linear = config.weights == "int8" and layer.rpartition(".")[2] in LINEAR_LAYERS
        if name == TABLE and config.table == "int4":
            yield name, (shape[0], shape[1] // 2)
            yield f"{layer}.scale", (shape[0], groups_of(shape[1]))
            continue
        yield name, shape
        if (name == TABLE and config.table == "int8") or (is_linear and leaf == "weight"):
            yield f"{layer}.scale", shape[:1]
        if is_linear and leaf == "bias" and config.activations == "int8":
            yield f"{layer}.input_range", (2,)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.{leaf}": () if leaf == "num_batches_tracked" else (width,) for leaf in NORM_LEAVES}


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
