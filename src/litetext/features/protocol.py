"""What a text encoder is: texts go in, one feature vector for each token comes out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError

if TYPE_CHECKING:
    import torch

Progress = Callable[[float], None]  # called with the share that is done, 0..1
Arrays: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Features float32 [B, L, D] and mask bool [B, L], True at valid tokens; values elsewhere mean nothing."""


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Features of the tokens of B texts, padded to L tokens.

    Attributes:
        values: floating point [B, L, D].
        mask: bool [B, L], True at valid tokens; values elsewhere mean nothing.

    Raises:
        EncoderError: the shapes do not fit, the mask is not bool, or a text has no valid token.
    """

    values: "torch.Tensor"
    mask: "torch.Tensor"

    def __post_init__(self) -> None:
        """Check what every reader relies on."""
        shapes = f"values {list(self.values.shape)}, mask {list(self.mask.shape)}"
        if self.values.ndim != 3 or self.mask.shape != self.values.shape[:2]:
            raise EncoderError(f"features are not [B, L, D] with a mask [B, L]: {shapes}")
        if str(self.mask.dtype) != "torch.bool":
            raise EncoderError(f"the mask of features is {self.mask.dtype}, not bool")
        if not self.mask.any(dim=1).all():
            row = int(self.mask.any(dim=1).int().argmin())
            raise EncoderError("a text without a valid token", where=f"row {row} of its batch", hint="drop empty texts")

    def __repr__(self) -> str:
        """One line."""
        texts, length, width = self.values.shape
        return f"TextFeatures({texts} texts, {length} tokens, width {width}, {self.values.dtype})"

    @classmethod
    def of_arrays(cls, values: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> "TextFeatures":
        """Arrays as tensors on the CPU, which share their memory."""
        import torch

        return cls(torch.from_numpy(values), torch.from_numpy(mask))

    def numpy(self) -> Arrays:
        """Float32 and bool arrays, on the CPU."""
        return self.values.detach().float().cpu().numpy(), self.mask.cpu().numpy()

    def pooled(self) -> "torch.Tensor":
        """The mean over the valid tokens of each text, float32 [B, D]."""
        mask = self.mask.unsqueeze(-1)
        # Set, not multiplied, to zero: padding may hold NaN, and 0 * NaN is NaN.
        kept = self.values.float().masked_fill(~mask, 0.0)
        return kept.sum(dim=1) / mask.sum(dim=1)


class EncoderInfo(Protocol):
    """What every source of features says of itself."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def context_length(self) -> int:
        """The most tokens it reads of a text, start and end token counted; the rest is cut off."""

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""


def check_loaded(encoder: Any) -> None:
    """Refuse a name where an encoder is needed: an `EncoderError`."""
    if isinstance(encoder, str | Path):
        hint = f"give TextEncoder.from_pretrained('{encoder}')"
        raise EncoderError("a name where an encoder is needed", where=str(encoder), hint=hint)


def describe(encoder: EncoderInfo) -> str:
    """An encoder in one line: the ``__repr__`` of those here."""
    kind = type(encoder).__name__
    return f"{kind}('{encoder.name}', context length {encoder.context_length}, width {encoder.width})"


class TextEncoder(EncoderInfo, Protocol):
    """Turns texts into features; everything that is measured, distilled or served satisfies it."""

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] of at least one text; L is that of the longest, or the context where padding is read."""


class ArrayEncoder(EncoderInfo, Protocol):
    """Texts to NumPy arrays: an exported encoder, a `PromptBank`, a `FeatureStore`."""

    def encode(self, texts: Sequence[str]) -> Arrays:
        """Features float32 [B, L, D] and mask bool [B, L], True at valid tokens, of at least one text."""
