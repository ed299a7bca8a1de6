"""How close the features of one text encoder are to those of another, token by token."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.features.encode import Encoder, array_rows, encode
from litetext.features.protocol import Progress

TEXTS = 1000  # of the bundled corpus, where no texts are given
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Fidelity:
    """How close the features of valid tokens are; a cosine of 1 is best.

    Attributes:
        phrases: how many were compared.
        tokens: valid tokens of these.
        mean: cosine, over all tokens.
        p1: its 1st percentile.
        min: its minimum.
        largest: absolute difference of two numbers.
        skipped: phrases that were not compared, because the two read another number of tokens of them.
    """

    phrases: int
    tokens: int
    mean: float
    p1: float
    min: float
    largest: float
    skipped: int = 0

    def __repr__(self) -> str:
        """One line."""
        return f"Fidelity({self.line()})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def line(self) -> str:
        """For people, in one line."""
        skipped = f"; {self.skipped:,} phrases with another number of tokens left out" if self.skipped else ""
        return (
            f"cosine on {self.tokens:,} valid tokens of {self.phrases:,} phrases: mean {self.mean:.5f}, "
            f"1st percentile {self.p1:.5f}, min {self.min:.5f}; largest difference {self.largest:.2g}{skipped}"
        )


def compare(
    reference: Encoder, other: Encoder, texts: Sequence[str] | None = None, progress: Progress | None = None
) -> Fidelity:
    """Compare two encoders on the same texts, at valid tokens: a teacher and its student, a student and its export.

    Args:
        reference: what is right.
        other: what is measured.
        texts: at least one; None for 1,000 of the bundled corpus.
        progress: called with the share done, 0..1.

    Raises:
        OptionError: no texts.
        EncoderError: an encoder fails, the widths differ, or no text has as many tokens in both.
    """
    if texts is None:
        from litetext.prompts.corpus import bundled_corpus

        texts = bundled_corpus().texts[:TEXTS]

    def pairs(texts: Sequence[str]) -> Iterator[Pair]:
        for places, rows in encode(reference, texts, progress=progress):
            yield from zip(rows, array_rows(other, [texts[place] for place in places]), strict=True)

    return compare_rows(pairs(texts), where=other.name)


def compare_rows(pairs: Iterable[Pair], where: str = "") -> Fidelity:
    """Compare features that are there already: of each phrase those of its valid tokens [T, D], reference and other.

    They are read one after another, and not kept; ``where`` says in errors what the others are.
    """
    cosines: list[npt.NDArray[np.float64]] = []
    largest, skipped = 0.0, 0
    for number, (reference, other) in enumerate(pairs):
        if reference.ndim != 2 or reference.shape[1:] != other.shape[1:] or 0 in reference.shape:
            shapes = f"{list(reference.shape)} and {list(other.shape)}"
            raise EncoderError(f"the features of phrase {number} are {shapes}, not twice [T, D]", where=where)
        if not (np.isfinite(reference).all() and np.isfinite(other).all()):
            raise EncoderError(f"the features of phrase {number} are not finite", where=where)
        if len(reference) != len(other):
            skipped += 1
            continue
        cosines.append(row_cosines(reference, other))
        largest = max(largest, float(np.abs(reference.astype(np.float64) - other).max()))
    if skipped and not cosines:
        raise EncoderError(f"none of {skipped} phrases has as many tokens in both", where=where)
    if not cosines:
        raise OptionError("no phrases to compare", hint="give at least one")
    every = np.concatenate(cosines)
    p1 = float(np.quantile(every, 0.01))
    return Fidelity(len(cosines), len(every), float(every.mean()), p1, float(every.min()), largest, skipped)


def row_cosines(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Cosine of each row of one matrix [T, D] with the same row of another, float64 [T].

    1 where both are equal, zeros included; 0 where only one is all zeros; -1 where a number is not finite.
    """
    one, two = first.astype(np.float64), second.astype(np.float64)
    finite = np.isfinite(one).all(axis=1) & np.isfinite(two).all(axis=1)
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        cosines = (one * two).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    cosines[(one == two).all(axis=1)] = 1.0  # exactly, which rounding would miss
    exact: npt.NDArray[np.float64] = np.where(finite, cosines.clip(-1.0, 1.0), -1.0)
    return exact
