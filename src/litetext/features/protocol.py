"""What a text encoder is: texts go in, one feature vector for each token comes out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError

if TYPE_CHECKING:
    import torch

Progress = Callable[[float], None]


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

    def pooled(self) -> "torch.Tensor":
        """The mean over the valid tokens of each text, float32 [B, D]."""
        mask = self.mask.unsqueeze(-1)
        # Set, not multiplied, to zero: padding may hold NaN, and 0 * NaN is NaN.
        kept = self.values.float().masked_fill(~mask, 0.0)
        return kept.sum(dim=1) / mask.sum(dim=1)


class Sized(Protocol):
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


class TextEncoder(Sized, Protocol):
    """Turns texts into features; everything that is measured, distilled or served satisfies it."""

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] of at least one text; L is that of the longest, or the context where padding is read."""


Inner = TypeVar("Inner", bound=Sized)


@dataclass(frozen=True, eq=False)
class Around(Generic[Inner]):
    """What encodes by means of another source of features, under its name and with its sizes.

    Attributes:
        inner: that source.
    """

    inner: Inner

    @property
    def name(self) -> str:
        """Of the source."""
        return self.inner.name

    @property
    def context_length(self) -> int:
        """Of the source."""
        return self.inner.context_length

    @property
    def width(self) -> int:
        """Of the source."""
        return self.inner.width


class ArrayEncoder(Sized, Protocol):
    """Texts to NumPy arrays: a `PromptBank`, or what runs an exported encoder."""

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Features float32 [B, L, D] and mask bool [B, L], True at valid tokens, of at least one text."""


@dataclass(frozen=True, eq=False)
class ArraysOf(Around[TextEncoder]):
    """The other way round: a `TextEncoder` that gives NumPy arrays."""

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Features float32 [B, L, D], what stands at padding means nothing, and mask bool [B, L].

        Raises:
            OptionError: no texts, or something that is not a string.
            EncoderError: the encoder fails.
        """
        found = self.inner.encode(texts)
        return found.values.detach().float().cpu().numpy(), found.mask.cpu().numpy()


def pooled_features(
    encoder: TextEncoder, texts: Sequence[str], batch_size: int = 64, progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """Pooled features of each text, float32 [N, D], in the order of the texts.

    Texts of similar length share a batch, so that little of the work is padding.

    Args:
        encoder: what to measure.
        texts: N of them.
        batch_size: texts encoded at once.
        progress: called with the share done, 0..1.

    Raises:
        OptionError: the batch size is not positive.
        EncoderError: the encoder fails, or gives features that are not finite.
    """
    if batch_size < 1:
        raise OptionError(f"a batch of {batch_size} texts", hint="give a batch size of at least 1")
    # The longest come first: a batch that does not fit into memory fails at once, not at the end.
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
    features = np.empty((len(texts), encoder.width), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        features[rows] = encoder.encode([texts[row] for row in rows]).pooled().cpu().numpy()
        if progress is not None:
            progress((start + len(rows)) / len(order))
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise EncoderError(
            f"the features of {bad.size} texts are not finite, the first is '{texts[bad[0]]}'",
            where=encoder.name,
            hint="compute in float32",
        )
    return features
