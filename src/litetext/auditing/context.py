"""Context: how much of a context length L the prompts fill, waste and lose. Pure functions on a length histogram."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from litetext.auditing.counting import COUNTING

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LengthSummary:
    """Tokens of a prompt, start and end included.

    Attributes:
        mean: average.
        median: 50th percentile (with linear interpolation, as NumPy's default).
        p95: 95th percentile.
        max: the longest.
    """

    mean: float
    median: float
    p95: float
    max: int

    def to_json(self) -> dict[str, float | int | str]:
        """Plain values with the counting rule."""
        return {**asdict(self), "counting": COUNTING}


@dataclass(frozen=True)
class ContextUse:
    """What N prompts of n_i tokens (start and end counted) make of a context of L tokens; kept_i = min(n_i, L).

    Attributes:
        length: L.
        density: sum of kept_i / (N L), the information density (paper section 3).
        padding: 1 - density.
        truncated: share of prompts with n_i > L.
        lost_tokens: sum of n_i - kept_i.
        lost_share: lost tokens as a share of all tokens.
        wasted_attention: 1 - sum of kept_i^2 / (N L^2), the share of attention pairs that touch padding.
    """

    length: int
    density: float
    padding: float
    truncated: float
    lost_tokens: int
    lost_share: float
    wasted_attention: float


def summarize(histogram: Counts) -> LengthSummary:
    """Mean, median, 95th percentile and maximum of a histogram (count at index n) with at least one prompt."""
    total = int(histogram.sum())
    mean = int(histogram @ np.arange(len(histogram))) / total
    longest = int(np.flatnonzero(histogram)[-1])
    return LengthSummary(mean, quantile(histogram, 0.5), quantile(histogram, 0.95), longest)


def quantile(histogram: Counts, share: float) -> float:
    """The quantile of a histogram with linear interpolation between order statistics (NumPy's default)."""
    cumulated = np.cumsum(histogram)
    rank = (int(cumulated[-1]) - 1) * share
    below, above = np.searchsorted(cumulated, [np.floor(rank), np.ceil(rank)], side="right")
    return float(below + (above - below) * (rank - np.floor(rank)))


def use_of_context(histogram: Counts, length: int) -> ContextUse:
    """What the prompts of a histogram (count at index n, at least one prompt) make of context length ``length``."""
    tokens = np.arange(len(histogram))
    kept = np.minimum(tokens, length)
    total, all_tokens = int(histogram.sum()), int(histogram @ tokens)
    lost = all_tokens - int(histogram @ kept)
    density = int(histogram @ kept) / (total * length)
    return ContextUse(
        length=length,
        density=density,
        padding=1 - density,
        truncated=int(histogram[length + 1 :].sum()) / total,
        lost_tokens=lost,
        lost_share=lost / all_tokens,
        wasted_attention=1 - int(histogram @ kept**2) / (total * length**2),
    )


def smallest_context(histogram: Counts, limit: float) -> int:
    """The smallest context length (at least 3) that truncates at most the share ``limit`` of the prompts."""
    longer = int(histogram.sum()) - np.cumsum(histogram)
    return max(3, int(np.argmax(longer <= limit * int(histogram.sum()))))
