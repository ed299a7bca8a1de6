"""Students of every kind that is exported, small; and what a graph of them answers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from litetext.encoders.config import Activations, EncoderConfig, Padding, Table
from litetext.encoders.student import StudentEncoder, TextStudent, build_student
from litetext.export.quantize import Kind, calibrate, quantize_student
from litetext.tokenizer.pruned import KeptTokens
from tests.encoders.students import disturb, generator

PHRASES = (
    "white dog",
    "a",
    "the man on the left of the red car that drives along the road near the big old tree in the park",
    "Crème  brûlée",
    "cat",
    "blue car",
    "two people & a 3rd one's umbrella",
    "white dog",
)


@lru_cache
def student(padding: Padding, **changes: Any) -> TextStudent:
    """A folded student with CLIP's whole vocabulary, whose weights hide no mistake."""
    config = replace(EncoderConfig.of("tiny", padding=padding), **changes)
    return disturb(build_student(config, generator()), 1).eval().fold()


@lru_cache
def pruned(padding: Padding, phrases: tuple[str, ...] = PHRASES) -> TextStudent:
    """One that has the tokens of some phrases only."""
    whole = student(padding)
    kept = KeptTokens.of_texts(phrases)
    small = student(padding, vocabulary=len(kept), kept=kept.to_text())
    state = {**whole.state_dict(), "token_table.weight": whole.token_table.weight[list(kept.ids)]}
    small.load_state_dict(state)
    return small


def quantized(whole: TextStudent, activations: Activations = "int8", table: Table = "int8") -> TextStudent:
    ranges = calibrate(whole, PHRASES) if activations == "int8" else None
    return quantize_student(whole, Kind("int8", activations, table), ranges)


def reference(module: TextStudent, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Features and mask as PyTorch has them."""
    with torch.no_grad():
        features = StudentEncoder(module, "student").encode(texts)
    return features.values.numpy(), features.mask.numpy()
