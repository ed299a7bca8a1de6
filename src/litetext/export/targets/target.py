"""What every export target has in common: what may be chosen, and the engine that runs what was written."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError

Precision = Literal["fp32", "fp16", "int8"]
INPUTS = ("input_ids", "attention_mask")  # of every program, as SAM3's pipelines name them
OUTPUTS = ("text_features", "text_mask")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
TARGETS = ("onnx", "openvino", "executorch", "coreml")  # a module here each, with `write` and `open_engine`


class Engine(Protocol):
    """A program that was exported, ready to run."""

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Features [B, L, D] of CLIP's ids [B, L]; zeros or anything at padding, where the mask is False."""
        ...


@dataclass(frozen=True)
class TargetOptions:
    """What a program is written for.

    Attributes:
        length: L of the ids that it takes; None for any, or for the context where the target cannot leave it open.
        batch: B of the ids that it takes; None for any, or for 1 where the target cannot leave it open.
        precision: of its weights, and with int8 of its products.

    Raises:
        OptionError: no such length, batch or precision.
    """

    length: int | None = None
    batch: int | None = None
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 2:
            raise OptionError(f"a length of {self.length}", hint="give at least 2: a start and an end token")
        if self.batch is not None and self.batch < 1:
            raise OptionError(f"a batch of {self.batch}", hint="give at least 1")
        if self.precision not in PRECISIONS:
            raise OptionError(f"the precision '{self.precision}'", hint=f"give one of {', '.join(PRECISIONS)}")
