"""Calls of a program whose batch or length is fixed: what is missing is filled with padding, what is too many waits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)
Features = npt.NDArray[np.float32]
NOTHING = ((0, 0), (0, 0))  # to fill up, in texts and in tokens


@dataclass(frozen=True)
class ProgramShape:
    """Which ids [B, L] a program takes.

    Attributes:
        length: L; None for any.
        batch: the most texts B; None for any.
        whole: whether it takes exactly so many.
    """

    length: int | None = None
    batch: int | None = None
    whole: bool = False

    def run(self, program: Callable[[Ids, Mask], Features], ids: Ids, mask: Mask) -> Features:
        """Features [B, L, D] of any ids [B, L] that are not longer than the program, in as many calls as it takes.

        Args:
            program: features of ids and mask that have this shape.
            ids: int64 [B, L], B at least 1.
            mask: bool [B, L].

        Raises:
            EncoderError: not both [B, L], no texts, or they are longer than the program.
        """
        if ids.ndim != 2 or ids.shape != mask.shape or not ids.size:
            raise EncoderError(f"ids {list(ids.shape)} and mask {list(mask.shape)} are not both [B, L]")
        rows, asked = ids.shape
        length = asked if self.length is None else self.length
        if asked > length:
            raise EncoderError(
                f"{asked} tokens for a program of {length}", hint="cut the texts, or export with a greater length"
            )
        step = self.batch or rows
        parts = []
        for start in range(0, rows, step):
            count = min(step, rows - start)
            size = ((0, step - count if self.whole else 0), (0, length - asked))
            some = slice(start, start + count)
            parts.append(program(_pad(ids[some], size), _pad(mask[some], size))[:count, :asked])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _pad(rows: npt.NDArray[Number], size: tuple[tuple[int, int], tuple[int, int]]) -> npt.NDArray[Number]:
    """Zeros after the tokens, and the last text again after the texts."""
    if size == NOTHING:
        return rows  # np.pad takes longer than a tenth of a short text
    return np.pad(np.pad(rows, (size[0], (0, 0)), mode="edge"), ((0, 0), size[1]))
