"""How true a smaller text encoder is to the one that it came from: their features, token by token."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import Progress, TextEncoder

CLOSE_MEAN, CLOSE_MIN = 0.999, 0.995  # what a student for the device must reach
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Fidelity:
    """How alike the features of valid tokens are; of the cosines 1 is best.

    Attributes:
        phrases: how many were compared.
        tokens: valid tokens of these.
        mean: cosine, over all tokens.
        p1: its 1st percentile.
        min: its least.
        largest: absolute difference of two numbers.
    """

    phrases: int
    tokens: int
    mean: float
    p1: float
    min: float
    largest: float

    @property
    def is_close(self) -> bool:
        """Whether the mean cosine is at least 0.999, and the least at least 0.995."""
        return self.mean >= CLOSE_MEAN and self.min >= CLOSE_MIN

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def line(self) -> str:
        """For people, in one line."""
        return (
            f"cosine on {self.tokens:,} valid tokens of {self.phrases:,} phrases: mean {self.mean:.5f}, "
            f"1st percentile {self.p1:.5f}, least {self.min:.5f}; largest difference {self.largest:.2g}"
        )


def compare_encoders(
    before: TextEncoder,
    after: TextEncoder,
    texts: Sequence[str],
    progress: Progress | None = None,
    *,
    batch_size: int = 64,
) -> Fidelity:
    """Compare two encoders on the same texts, at valid tokens only.

    Args:
        before: the reference.
        after: the other; it must give every text as many tokens.
        texts: at least one.
        progress: called with the share done, 0..1.
        batch_size: texts encoded at once.

    Raises:
        OptionError: no texts, or a batch size that is not positive.
        EncoderError: the features have other sizes, or are not finite.
    """
    if batch_size < 1:
        raise OptionError(f"a batch of {batch_size} texts", hint="give a batch size of at least 1")
    # Texts of similar length share a batch, so that little of the work is padding; the order changes no figure.
    order = sorted(texts, key=len, reverse=True)

    def pairs() -> Iterable[Pair]:
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            yield from zip(_rows(before, some), _rows(after, some), strict=True)
            if progress is not None:
                progress((start + len(some)) / len(order))

    return fidelity_of(pairs(), where=after.name)


def fidelity_of(pairs: Iterable[Pair], where: str = "") -> Fidelity:
    """Compare features that are there already.

    Args:
        pairs: of each phrase the features of its valid tokens [T, D]: the reference, and the other. They are read one
            after another, and not kept.
        where: what the others are, for errors.

    Raises:
        OptionError: no pairs.
        EncoderError: two of other shapes, without a token, or with a number that is not finite.
    """
    cosines: list[npt.NDArray[np.float64]] = []
    largest = 0.0
    for number, (reference, other) in enumerate(pairs):
        if reference.shape != other.shape or reference.ndim != 2 or 0 in reference.shape:
            shapes = f"{list(reference.shape)} and {list(other.shape)}"
            raise EncoderError(f"the features of phrase {number} are {shapes}, not twice [T, D]", where=where)
        one, two = reference.astype(np.float64), other.astype(np.float64)
        if not (np.isfinite(one).all() and np.isfinite(two).all()):
            raise EncoderError(f"the features of phrase {number} are not finite", where=where)
        cosines.append(_cosines(one, two))
        largest = max(largest, float(np.abs(one - two).max()))
    if not cosines:
        raise OptionError("no phrases to compare", hint="give at least one")
    every = np.concatenate(cosines)
    return Fidelity(
        phrases=len(cosines),
        tokens=len(every),
        mean=float(every.mean()),
        p1=float(np.quantile(every, 0.01)),
        min=float(every.min()),
        largest=largest,
    )


def _cosines(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine of each row [T]: 1 where both are zero, 0 where one of them is."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    alike = (one == two).all(axis=1)  # exactly 1, which rounding would miss
    cosines = (one * two).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    exact: npt.NDArray[np.float64] = np.where(alike, 1.0, cosines.clip(-1.0, 1.0))
    return exact


def _rows(encoder: TextEncoder, texts: Sequence[str]) -> list[npt.NDArray[np.float32]]:
    """Features of the valid tokens of each text, [T, D]."""
    features = encoder.encode(texts)
    values, mask = features.values.float().cpu().numpy(), features.mask.cpu().numpy()
    return [row[seen] for row, seen in zip(values, mask, strict=True)]
