"""What students are made of: token tables, the two kinds of block, and their norm.

Tokens are [B, L, C], B texts of L, or, in training, the valid ones alone as rows [T, C].
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, layer_norm, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from litetext.encoders.config import EXPANSION, KERNEL
from litetext.errors import OptionError

MakeLinear = Callable[[int, int], nn.Module]  # a linear layer of so many inputs and outputs


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Where the T valid tokens of a batch stand: training, and RepMixer blocks, compute on their rows [T, C] alone.

    Only attention and convolutions are given a batch again, with zeros as padding. Not for a student that is exported,
    whose graph must not depend on how many tokens are valid.
    """

    mask: Tensor  # bool [B, L], True at valid tokens
    flat: Tensor | None  # int64 [T], where they stand in [B * L, C]; None where all tokens are valid

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """The places that a mask says."""
        flat = mask.flatten().nonzero().flatten()
        return cls(mask, None if len(flat) == mask.numel() else flat)

    @property
    def attended(self) -> Tensor | None:
        """The mask; None where it masks nothing."""
        return None if self.flat is None else self.mask

    def rows(self, x: Tensor) -> Tensor:
        """The valid tokens [T, C] of a batch [B, L, C]."""
        rows = x.flatten(0, 1)
        return rows if self.flat is None else rows.index_select(0, self.flat)

    def batch(self, rows: Tensor) -> Tensor:
        """The batch [B, L, C] of valid tokens [T, C], zero at padding."""
        if self.flat is not None:
            rows = rows.new_zeros((self.mask.numel(), rows.shape[1])).index_copy(0, self.flat, rows)
        return rows.view(*self.mask.shape, rows.shape[1])


class FloatLayerNorm(nn.LayerNorm):
    """Layer norm that computes in float32 and answers in the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalized input, any shape [..., C]."""
        weight, bias = self.weight.float(), self.bias.float()
        return layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: attention of every token to every token, then a feed-forward with exact GELU.

    Parameters: ``attention_norm``, ``qkv`` (rows are all queries, then all keys, then all values; each head by head),
    ``out``, ``ffn_norm``, ``fc1``, ``fc2``.
    """

    def __init__(self, width: int, heads: int, make_linear: MakeLinear = nn.Linear) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = FloatLayerNorm(width)
        self.qkv = make_linear(width, 3 * width)
        self.out = make_linear(width, width)
        self.ffn_norm = FloatLayerNorm(width)
        self.fc1 = make_linear(width, EXPANSION * width)
        self.fc2 = make_linear(EXPANSION * width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The next states of tokens [B, L, C]; no token attends to those where the mask [B, L] is False."""
        x = x + self.out(self._attend(self.qkv(self.attention_norm(x)), mask))
        return x + _feed_forward(self.fc1, self.fc2, self.ffn_norm(x))

    def forward_rows(self, rows: Tensor, places: PackedTokens) -> Tensor:
        """The same of the valid tokens [T, C] alone."""
        heads = places.batch(self.qkv(self.attention_norm(rows)))
        rows = rows + self.out(places.rows(self._attend(heads, places.attended)))
        return rows + _feed_forward(self.fc1, self.fc2, self.ffn_norm(rows))

    def _attend(self, heads: Tensor, mask: Tensor | None) -> Tensor:
        """Mixed values [B, L, C] of queries, keys and values [B, L, 3 C]."""
        batch, length, width = heads.shape
        parts = heads.view(batch, length, 3, self.heads, width // (3 * self.heads))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, L, C / heads]
        keys = None if mask is None else mask[:, None, None, :]
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=keys)
        return mixed.transpose(1, 2).reshape(batch, length, width // 3)


class MixerBlock(nn.Module):
    """RepMixer block as it is trained: a depthwise convolution over the tokens, then a convolutional feed-forward.

    With every norm a batch norm and every convolution depthwise, of 11 taps, centred and without bias::

        x <- x + mixer_scale * (mixer_conv_norm(mixer_conv(x)) + mixer_skip(x) - mixer_norm(x))
        x <- x + ffn_scale * fc2(gelu(fc1(ffn_conv_norm(ffn_conv(x)))))

    At inference all of it but the layers fc1 and fc2 is linear in x, up to a constant: `fold` makes two convolutions of
    it. Sources: FastViT (arXiv 2303.14189, section 3.2) and MobileCLIP (arXiv 2311.17049, section 4).

    Padding (mask False) is set to zero before each convolution, so that it is the same as no token, and batch
    statistics are taken over the valid tokens only.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mixer_norm = nn.BatchNorm1d(width)
        self.mixer_skip = nn.BatchNorm1d(width)
        self.mixer_conv = _depthwise(width, bias=False)
        self.mixer_conv_norm = nn.BatchNorm1d(width)
        self.mixer_scale = nn.Parameter(torch.ones(width))
        self.ffn_conv = _depthwise(width, bias=False)
        self.ffn_conv_norm = nn.BatchNorm1d(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)
        self.ffn_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The next states of tokens [B, L, C]; where the mask [B, L] is False there is no token."""
        whole = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        places = PackedTokens(whole, None) if mask is None else PackedTokens.of(mask)
        return places.batch(self.forward_rows(places.rows(x), places))

    def forward_rows(self, rows: Tensor, places: PackedTokens) -> Tensor:
        """The same of the valid tokens [T, C] alone, which are all that batch statistics are taken over."""
        mixed = self.mixer_conv_norm(places.rows(_over_tokens(self.mixer_conv, places.batch(rows))))
        rows = rows + self.mixer_scale * (mixed + self.mixer_skip(rows) - self.mixer_norm(rows))
        mixed = self.ffn_conv_norm(places.rows(_over_tokens(self.ffn_conv, places.batch(rows))))
        return rows + self.ffn_scale * _feed_forward(self.fc1, self.fc2, mixed)

    @torch.no_grad()
    def fold(self) -> "FoldedMixerBlock":
        """The same function at inference without batch norm, on the same device and in the same dtype."""
        scale = _float64(self.mixer_scale)
        skip, skip_shift = _affine(self.mixer_skip)
        norm, norm_shift = _affine(self.mixer_norm)
        taps, shift = _fold(self.mixer_conv, self.mixer_conv_norm)
        taps[:, 0, KERNEL // 2] += skip - norm
        taps *= scale[:, None, None]
        taps[:, 0, KERNEL // 2] += 1.0
        ffn_taps, ffn_shift = _fold(self.ffn_conv, self.ffn_conv_norm)
        with torch.device("meta"):  # elsewhere PyTorch's modules draw from its global generator
            folded = FoldedMixerBlock(len(scale))
        folded.to_empty(device=self.mixer_scale.device).to(self.mixer_scale.dtype)
        folded.mixer_folded.load_state_dict({"weight": taps, "bias": scale * (shift + skip_shift - norm_shift)})
        folded.ffn_folded.load_state_dict({"weight": ffn_taps, "bias": ffn_shift})
        folded.fc1.load_state_dict(self.fc1.state_dict())
        folded.fc2.load_state_dict(self.fc2.state_dict())
        folded.ffn_scale.copy_(self.ffn_scale)
        return folded.eval()


class FoldedMixerBlock(nn.Module):
    """RepMixer block for inference: what of `MixerBlock` is linear is two depthwise convolutions with bias.

    ``ffn_scale`` stays apart from ``fc2``: trained scales are small, and in half precision the product underflows.
    """

    def __init__(self, width: int, make_linear: MakeLinear = nn.Linear) -> None:
        super().__init__()
        self.mixer_folded = _depthwise(width, bias=True)
        self.ffn_folded = _depthwise(width, bias=True)
        self.fc1 = make_linear(width, EXPANSION * width)
        self.fc2 = make_linear(EXPANSION * width, width)
        self.ffn_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The next states of tokens [B, L, C]; where the mask [B, L] is False there is no token."""
        x = _over_tokens(self.mixer_folded, _without_padding(x, mask))
        x = _without_padding(x, mask)
        return x + self.ffn_scale * _feed_forward(self.fc1, self.fc2, _over_tokens(self.ffn_folded, x))


class FactorizedTable(nn.Embedding):
    """A token table [V, C] that is the product of two: a row of r numbers for each token, and a linear layer r -> C.

    Parameters: ``weight`` [V, r]; ``up.weight`` [C, r].
    """

    def __init__(self, vocabulary: int, rank: int, width: int) -> None:
        super().__init__(vocabulary, rank)
        self.up = nn.Linear(rank, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors [..., C] of ids [...], int64."""
        vectors: Tensor = self.up(super().forward(ids))
        return vectors


def token_table(vocabulary: int, rank: int | None, width: int) -> nn.Embedding:
    """A token table: whole for a rank of None, else factorized."""
    return nn.Embedding(vocabulary, width) if rank is None else FactorizedTable(vocabulary, rank, width)


@torch.no_grad()
def factorize_table(table: Tensor, rank: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The two weights of the `FactorizedTable` nearest to a table: no other of this rank has a smaller squared error.

    Source: Eckart and Young (1936). ``weight`` [V, r] and ``up.weight`` [C, r], whose columns are orthonormal, are
    computed in float64 and come in the table's dtype on its device.

    Weights [V], at least 0, say how much the squared error of each row counts; None for all alike.
    """
    if table.ndim != 2 or not 1 <= rank <= min(table.shape):
        raise OptionError(f"a table {list(table.shape)} at rank {rank}", hint="give [V, C] and a rank of at most both")
    _, directions = _directions(table, weights)
    directions = directions[:, :rank]
    return (_float64(table) @ directions).to(table), directions.contiguous().to(table)


@torch.no_grad()
def table_variances(table: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sums of squares of a table [V, C] along its principal directions, the largest first: float64 [C].

    What `factorize_table` loses at a rank is the sum of those after it.
    """
    variances, _ = _directions(table, weights)
    return variances.clamp_min(0.0)


def _directions(table: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Eigenvalues [C] and eigenvectors [C, C] of the weighted products of columns, the largest first."""
    exact = _float64(table)
    if weights is not None and weights.shape != exact.shape[:1]:
        what = f"weights {list(weights.shape)} for a table {list(exact.shape)}"
        raise OptionError(what, hint="give one for each row")
    weighted = exact if weights is None else exact * _float64(weights)[:, None]
    values, vectors = torch.linalg.eigh(exact.T @ weighted)
    return values.flip(0), vectors.flip(1)


@contextmanager
def meta_init() -> Iterator[None]:
    """Build modules on the device "meta", without weights: for those whose weights are loaded next."""
    with torch.device("meta"), _WithoutInitialization():
        yield


class _WithoutInitialization(TorchFunctionMode):
    """Skips the functions of `torch.nn.init`: on "meta" they do nothing, but first import the compiler (2 s)."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, unless it initializes: then return its tensor."""
        options = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":  # slots of classes have no module
            return args[0] if args else options["tensor"]
        return func(*args, **options)


def _feed_forward(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    """Two linear layers with exact GELU between them."""
    after: Tensor = second(gelu(first(x)))
    return after


def _depthwise(width: int, *, bias: bool) -> nn.Conv1d:
    """Convolution of each channel with its own taps; the weight is [C, 1, 11]."""
    return nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width, bias=bias)


def _over_tokens(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolve [B, L, C] along L, with zeros on both sides.

    As a picture of one row in the channels-last format, which [B, L, C] is: nothing is transposed, and on a CPU
    training takes a fifth of the time that it takes in one dimension.
    """
    picture, taps = x.unsqueeze(1).permute(0, 3, 1, 2), convolution.weight.unsqueeze(2)  # [B, C, 1, L], [C, 1, 1, 11]
    mixed = conv2d(picture, taps, convolution.bias, padding=(0, KERNEL // 2), groups=len(taps))
    return mixed.permute(0, 2, 3, 1).squeeze(1)


def _without_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero where the mask is False. Set, not multiplied: padding may hold infinity, and 0 * inf is NaN."""
    return x if mask is None else x.masked_fill(~mask[:, :, None], 0.0)


def _float64(x: Tensor) -> Tensor:
    """A copy in float64, on the CPU because not every device has that type."""
    return x.detach().cpu().to(torch.float64, copy=True)


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Factor and shift, float64 [C] each, that a batch norm is at inference."""
    state = {name: _float64(value) for name, value in norm.state_dict().items()}
    factor = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
    return factor, state["bias"] - state["running_mean"] * factor


def _fold(convolution: nn.Conv1d, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weight [C, 1, 11] and bias [C], float64, of the convolution that equals one followed by a batch norm."""
    factor, shift = _affine(norm)
    return _float64(convolution.weight) * factor[:, None, None], shift
