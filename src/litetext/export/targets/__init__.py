"""What every export target has in common: what may be chosen, and how a written program is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
INPUTS = ("input_ids", "attention_mask")  # of every program, as SAM3's pipelines name them
OUTPUTS = ("text_features", "text_mask")
TARGETS = ("onnx", "executorch", "coreml")  # a module here each, with `write`

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)
Engine = Callable[[Ids, Mask], Features]
"""A program that is ready to run: features [B, L, D] of CLIP's ids [B, L]; anything where the mask is False."""


@dataclass(frozen=True)
class TargetOptions:
    """What a program is written for; None is any size, or where a target cannot leave it open the context, and 1."""

    length: int | None = None  # L of the ids that it takes
    batch: int | None = None  # B of them
    precision: Precision = "fp32"  # of its weights, and with int8 of its products

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 2:
            raise OptionError(f"a length of {self.length}", hint="give at least 2: a start and an end token")
        if self.batch is not None and self.batch < 1:
            raise OptionError(f"a batch of {self.batch}", hint="give at least 1")
        if self.precision not in PRECISIONS:
            raise OptionError(f"the precision '{self.precision}'", hint=f"give one of {', '.join(PRECISIONS)}")


def any_shape(program: Engine, length: int | None, batch: int | None, *, fill_batch: bool = True) -> Engine:
    """An engine for any ids [B, L] that are not longer than a program's, in as many calls as it takes.

    The engine raises an `EncoderError` of ids and mask that are not both [B, L], empty, or longer than the program.

    Args:
        program: takes ids and mask of its own shape.
        length: L that it takes; None for any.
        batch: the most texts B that it takes; None for any.
        fill_batch: whether it takes exactly so many.
    """

    def run(ids: Ids, mask: Mask) -> Features:
        if ids.ndim != 2 or ids.shape != mask.shape or not ids.size:
            raise EncoderError(f"ids {list(ids.shape)} and mask {list(mask.shape)} are not both [B, L]")
        rows, tokens = ids.shape
        longer = (length or tokens) - tokens
        if longer < 0:
            raise EncoderError(
                f"{tokens} tokens for a program of {length}", hint="cut the texts, or export with a greater length"
            )
        step = batch or rows
        parts = []
        for start in range(0, rows, step):
            count = min(step, rows - start)
            more = step - count if fill_batch else 0
            part = slice(start, start + count)
            parts.append(program(_fill(ids[part], more, longer), _fill(mask[part], more, longer))[:count, :tokens])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return run


def _fill(rows: npt.NDArray[Number], texts: int, tokens: int) -> npt.NDArray[Number]:
    """Zeros after the tokens, and the last text repeated after the texts."""
    if not texts and not tokens:
        return rows  # np.pad takes longer than a tenth of a short text
    return np.pad(np.pad(rows, ((0, texts), (0, 0)), mode="edge"), ((0, 0), (0, tokens)))
