"""Weights, activations and token tables as small integers, and the layers that compute with them.

PyTorch computes in floating point with the numbers that the integers stand for: the mathematics of ONNX's
QuantizeLinear and DequantizeLinear, and so the reference of the engines, which have kernels for the integers
themselves. Nothing here is trained.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from litetext.encoders.config import Activations, Table, groups_of
from litetext.errors import OptionError

INT8_MAX = 127  # -128 is not used: symmetric
INT4_MIN, INT4_MAX = -8, 7
LEVELS = 255  # steps of a uint8 activation
# A step below the largest number / 7 clips a few numbers and is finer for the others.
INT4_STEPS = tuple(round(1 - 0.05 * number, 2) for number in range(10))
ROWS_AT_ONCE = 8192


class QuantizedLinear(nn.Module):
    """A linear layer with int8 weights, and with uint8 activations if asked.

    State: ``weight`` int8 [N, K]; ``scale`` float32 [N], of each output channel; ``bias`` floating point [N]; with
    quantized activations ``input_range`` float32 [2], the lowest (at most 0) and the highest (at least 0) input that
    is not clipped.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor
    input_range: Tensor | None

    def __init__(self, inputs: int, outputs: int, *, activations: Activations) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.register_buffer("input_range", torch.tensor([0.0, 1.0]) if activations == "int8" else None)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [..., N] of inputs [..., K], in their dtype; computed in float32."""
        exact = x.float()
        if self.input_range is not None:
            exact = dequantize_activation(quantize_activation(exact, self.input_range), self.input_range)
        weight = dequantize_weight(self.weight, self.scale)
        return linear(exact, weight, self.bias.float()).to(x.dtype)


class QuantizedTable(nn.Module):
    """A token table of int8 or int4 numbers, whole or factorized.

    State: ``weight`` and ``scale`` as `quantize_table` makes them, of [V, C] or [V, r]; with a rank ``up.weight``
    [C, r], floating point.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, vocabulary: int, rank: int | None, width: int, table: Table) -> None:
        super().__init__()
        columns = width if rank is None else rank
        if table == "int8":
            weight, scale = torch.zeros(vocabulary, columns, dtype=torch.int8), torch.ones(vocabulary)
        else:
            weight = torch.zeros(vocabulary, columns // 2, dtype=torch.uint8)
            scale = torch.ones(vocabulary, groups_of(columns))
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.up = None if rank is None else nn.Linear(rank, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors [..., C] of ids [...], int64; float32, or the type of ``up``."""
        vectors = dequantize_table(self.weight[ids], self.scale[ids])
        if self.up is None:
            return vectors
        raised: Tensor = self.up(vectors.to(self.up.weight.dtype))
        return raised


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A finite matrix [N, K] as int8 [N, K], where the largest number of a row is 127 or -127, and float32 scales [N].

    The scale of a row that is zero, or so small that float32 has no scale for it, is 1.
    """
    exact = weight.detach().float()
    scale = _positive(exact.abs().amax(dim=1) / INT8_MAX)
    steps = torch.round(exact / scale[:, None]).clamp_(-INT8_MAX, INT8_MAX)
    return steps.to(torch.int8), scale


def dequantize_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """The numbers that int8 [..., K] with scales [...] stand for, float32 [..., K]."""
    return weight.float() * scale.float().unsqueeze(-1)


def quantize_table(table: Tensor, kind: Table) -> tuple[Tensor, Tensor]:
    """The integers and scales of a finite token table [V, C].

    "int8" is as `quantize_weight` has it: int8 [V, C] and float32 [V]. "int4" has a scale for each group of 32 columns
    of a row, or for the whole row where C is no multiple of 32; of ten scales, from the largest number / 7 down to half
    of that, the one with the least squared error. It is uint8 [V, C / 2], two numbers a byte, that of the lower column
    in the lower half, each + 8; and float32 [V, C / 32] or [V, 1].
    """
    if kind == "int8":
        return quantize_weight(table)
    if kind != "int4" or table.shape[1] % 2:
        raise OptionError(f"a token table of {table.shape[1]} columns as {kind}", hint="give int8, or an even number")
    exact = table.detach()
    packed, scales = zip(*map(_pack_int4, torch.split(exact, ROWS_AT_ONCE)), strict=True)
    return torch.cat(packed), torch.cat(scales)


def dequantize_table(weight: Tensor, scale: Tensor) -> Tensor:
    """The float32 numbers [..., C] of int8 [..., C] and scales [...], or of int4, uint8 [..., C / 2], and [..., G]."""
    if weight.dtype == torch.int8:
        return dequantize_weight(weight, scale)
    # Divided, not shifted: torch.export's set of operators, which mobile engines know, has no shift.
    upper = torch.div(weight, 16, rounding_mode="floor")
    halves = torch.stack((weight & 15, upper), dim=-1).flatten(-2)
    steps = halves.float() + INT4_MIN
    groups = steps.reshape(*scale.shape, -1) * scale.float().unsqueeze(-1)
    return groups.flatten(-2)


def quantize_activation(x: Tensor, input_range: Tensor) -> Tensor:
    """uint8 steps of float32 of any shape: round(x / s) + z, clipped to 0..255; halves are rounded to even.

    The range is float32 [2], low <= 0 and high >= 0, not both 0: s = (high - low) / 255, z = round(-low / s).
    """
    scale, zero = _affine(input_range)
    return (torch.round(x / scale) + zero).clamp(0, LEVELS).to(torch.uint8)


def dequantize_activation(steps: Tensor, input_range: Tensor) -> Tensor:
    """The numbers that uint8 steps stand for, float32: (q - z) * s."""
    scale, zero = _affine(input_range)
    return (steps.float() - zero) * scale


def _affine(input_range: Tensor) -> tuple[Tensor, Tensor]:
    low, high = input_range.float()
    scale = (high - low) / LEVELS
    return scale, torch.round(-low / scale)


def _positive(scale: Tensor) -> Tensor:
    """Scales with 1 for those by which nothing can be divided."""
    return torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)


def _pack_int4(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes and scales of some rows."""
    groups = rows.float().reshape(len(rows), groups_of(rows.shape[1]), -1)  # [V, G, C / G]
    widest = _positive(groups.abs().amax(dim=2) / INT4_MAX)
    best, scale = torch.full_like(widest, torch.inf), widest
    for share in INT4_STEPS:
        tried = _positive(widest * share)
        error = (_int4_steps(groups, tried) * tried[:, :, None] - groups).square().sum(dim=2)
        scale, best = torch.where(error < best, tried, scale), torch.minimum(error, best)
    halves = (_int4_steps(groups, scale) - INT4_MIN).flatten(1).to(torch.uint8)
    return halves[:, 0::2] | (halves[:, 1::2] << 4), scale


def _int4_steps(groups: Tensor, scale: Tensor) -> Tensor:
    return torch.round(groups / scale[:, :, None]).clamp_(INT4_MIN, INT4_MAX)
