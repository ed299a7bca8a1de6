"""Quantization after training: int8 weights and activations, int8 and int4 token tables, halves.

The range of each linear layer's input is chosen on what the layer reads for real texts: at valid tokens, and at padding
too where a student attends to it. Of many ranges the one with the least squared error is taken, so that a few far
numbers may be clipped for a finer step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from litetext.checkpoints.schema import LINEAR_LAYERS, TABLE
from litetext.encoders.config import Activations, Table, Weights
from litetext.encoders.encoder import evaluating, prepare_rows
from litetext.encoders.layers import meta_init
from litetext.encoders.quantized import (
    dequantize_activation,
    quantize_activation,
    quantize_table,
    quantize_weight,
)
from litetext.encoders.student import TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import Progress

BINS = 4096  # 16 for each step of the widest range
SHARES = tuple(number / 20 for number in range(20, 5, -1))  # of the lowest and of the highest number
BATCH = 64


class Kind(NamedTuple):
    """What becomes of a student's numbers."""

    weights: Weights = "float"  # of the linear layers
    activations: Activations = "float"  # what the linear layers read
    table: Table = "float"  # the token table
    dtype: torch.dtype | None = None  # of all that is floating point; None keeps it


KINDS: dict[str, Kind] = {
    "int8": Kind("int8", "int8", "int8"),
    "int4": Kind("int8", "int8", "int4"),
    "int8-weight-only": Kind("int8", "float", "int8"),
    "int4-weight-only": Kind("int8", "float", "int4"),
    "fp16": Kind(dtype=torch.float16),
    "bf16": Kind(dtype=torch.bfloat16),
    "fp32": Kind(dtype=torch.float32),
}
"""The ways to quantize by name. "int4" is the token table only: linear layers stay int8, as engines want it."""


def quantize_student(student: TextStudent, kind: Kind, ranges: Mapping[str, Tensor] | None = None) -> TextStudent:
    """A folded student with smaller numbers, in eval mode on the CPU.

    Args:
        student: in floating point.
        kind: a row of `KINDS`, or another combination.
        ranges: of each linear layer's input, as `calibrate` gives them, for int8 activations.

    Raises:
        OptionError: the student is not folded, or its token table has an odd number of columns for int4.
    """
    config = replace(student.config, weights=kind.weights, activations=kind.activations, table=kind.table)
    state: dict[str, Tensor] = {}
    for name, tensor in student.state_dict().items():
        state |= _store(name, tensor.detach().cpu(), kind)
    if kind.activations == "int8":
        state |= {f"{name}.input_range": ends for name, ends in (ranges or {}).items()}
    with meta_init():
        smaller = TextStudent(config)
    smaller.load_state_dict(state, strict=True, assign=True)
    return smaller.eval()


def _store(name: str, tensor: Tensor, kind: Kind) -> dict[str, Tensor]:
    """What a tensor becomes, by name."""
    layer, _, leaf = name.rpartition(".")
    if name == TABLE and kind.table != "float":
        weight, scale = quantize_table(tensor, kind.table)
    elif kind.weights == "int8" and leaf == "weight" and layer.rpartition(".")[2] in LINEAR_LAYERS:
        weight, scale = quantize_weight(tensor)
    else:
        return {name: tensor.to(kind.dtype or tensor.dtype)}
    return {name: weight, f"{layer}.scale": scale}


def calibrate(student: TextStudent, texts: Sequence[str], progress: Progress | None = None) -> dict[str, Tensor]:
    """The input range of each linear layer of a student in floating point, float32 [2] by the layer's name.

    low <= 0 <= high, not both 0. The texts are read twice: for the widest ranges, then for the distribution within
    them. The same texts give the same ranges, whatever their order.

    Raises:
        EncoderError: a layer reads numbers that are not finite.
    """
    if not texts:
        raise OptionError("no phrases to calibrate with", hint="give at least one")
    order = sorted(texts, key=lambda text: (len(text), text), reverse=True)
    widest: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}

    def widen(name: str, values: Tensor) -> None:
        ends = torch.stack(values.aminmax())
        before = widest.get(name, torch.zeros(2))
        widest[name] = torch.stack((torch.minimum(before[0], ends[0]), torch.maximum(before[1], ends[1])))

    def count(name: str, values: Tensor) -> None:
        low, high = widest[name].tolist()
        counts[name] = counts.get(name, 0) + torch.histc(values, BINS, low, high).double()

    def half(first: float) -> Progress:
        return lambda share: None if progress is None else progress(first + share / 2)

    _read_inputs(student, order, widen, half(0.0))
    for name, ends in widest.items():
        if not bool(ends.isfinite().all()):
            raise EncoderError(f"what '{name}' reads is not finite", hint="give a student whose features are")
        if ends[0] == ends[1]:  # both 0
            widest[name] = torch.tensor([0.0, 1.0])
    _read_inputs(student, order, count, half(0.5))
    return {name: best_range(counts[name], widest[name]) for name in widest}


def best_range(counts: Tensor, widest: Tensor) -> Tensor:
    """The range with the least squared error of quantization, float32 [2].

    Args:
        counts: [N], how many numbers are in each of N equal bins of the widest range.
        widest: float32 [2], low <= 0 <= high, not both 0: the range that clips nothing.
    """
    low, high = widest.tolist()
    edges = torch.linspace(low, high, len(counts) + 1, dtype=torch.float64)
    centers = ((edges[:-1] + edges[1:]) / 2).float()

    def error(ends: Tensor) -> float:
        rounded = dequantize_activation(quantize_activation(centers, ends), ends)
        return float((counts * (rounded - centers).square()).sum())

    candidates = [torch.tensor([low * first, high * second]) for first in SHARES for second in SHARES]
    return min(candidates, key=error)  # of equals the first, which is the widest


def linear_layers(student: TextStudent) -> dict[str, nn.Module]:
    """The layers that can be quantized, by name."""
    return {name: module for name, module in student.named_modules() if name.rpartition(".")[2] in LINEAR_LAYERS}


def _read_inputs(
    student: TextStudent, texts: Sequence[str], observe: Callable[[str, Tensor], None], progress: Progress
) -> None:
    """Call `observe` with the name of each linear layer and what it reads, float32 [N], batch by batch."""
    config = student.config
    valid = torch.ones(0)

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _, inputs: observe(name, inputs[0][valid].float().flatten())

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in linear_layers(student).items()]
    try:
        with torch.no_grad(), evaluating(student):
            for start in range(0, len(texts), BATCH):
                batch = prepare_rows(texts[start : start + BATCH], config)
                ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
                valid = mask if config.padding == "masked" else torch.ones_like(mask)
                student(ids, mask)
                progress(min(1.0, (start + BATCH) / len(texts)))
    finally:
        for handle in handles:
            handle.remove()
