"""How far the features of a row are from those of fp32 PyTorch with the same weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from litetext.storage import atomic_file

Floats = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]
BATCH = 32


@dataclass(frozen=True)
class Exactness:
    """Cosines between features at valid tokens and those of a reference.

    Attributes:
        phrases: that were compared.
        skipped: that were not, having other numbers of tokens in the two: one of them cuts off earlier.
        mean: over all tokens.
        p1: the 1st percentile.
        least: of all tokens.
    """

    phrases: int
    skipped: int
    mean: float
    p1: float
    least: float

    def to_json(self) -> dict[str, float | int]:
        """Plain values."""
        return asdict(self)


def write_reference(encode: Encode, texts: Sequence[str], path: Path) -> None:
    """Keep the features of texts at valid tokens [T, D] and the number of tokens of each text [N].

    Raises:
        OSError: the file cannot be written.
    """
    from safetensors.numpy import save

    rows = [row for batch in _features(encode, texts) for row in batch]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    with atomic_file(path) as file:
        file.write(save({"values": np.concatenate(rows), "lengths": lengths}))


def kept_texts(path: Path) -> int:
    """The texts of a reference; 0 where there is none."""
    if not path.is_file():
        return 0
    with safe_open(path, framework="numpy") as kept:
        count: int = kept.get_slice("lengths").get_shape()[0]
    return count


def compare(encode: Encode, texts: Sequence[str], path: Path) -> Exactness | None:
    """Compare the features of texts with those that were kept of the same texts, in the same order.

    Args:
        encode: features [B, L, D] and mask [B, L] of texts.
        texts: those of the reference, or the first of them.
        path: what `write_reference` wrote.

    Returns:
        None where no text has the same number of tokens in both.
    """
    with safe_open(path, framework="numpy") as kept:
        values, lengths = kept.get_tensor("values"), kept.get_tensor("lengths")
    ends = np.cumsum(lengths)
    cosines: list[Floats] = []
    skipped = place = 0
    for batch in _features(encode, texts[: len(lengths)]):
        for row in batch:
            wanted = values[ends[place] - lengths[place] : ends[place]]
            place += 1
            if len(row) == len(wanted):
                cosines.append(_cosines(row, wanted))
            else:
                skipped += 1
    if not cosines:
        return None
    every = np.concatenate(cosines)
    return Exactness(len(cosines), skipped, float(every.mean()), float(np.quantile(every, 0.01)), float(every.min()))


def _features(encode: Encode, texts: Sequence[str]) -> Iterator[list[Floats]]:
    """Features of each text at its valid tokens, a batch after the other."""
    for start in range(0, len(texts), BATCH):
        values, mask = encode(texts[start : start + BATCH])
        yield [row[valid].astype(np.float32) for row, valid in zip(values, mask, strict=True)]


def _cosines(one: Floats, other: Floats) -> Floats:
    """Cosine of each row with its counterpart; not a number, whichever of them holds one, is no likeness: -1."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found: Floats = (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return np.nan_to_num(found, nan=-1.0, posinf=-1.0, neginf=-1.0)
