"""Calibration: which range of its input each linear layer tells apart when activations are int8.

A range is chosen on what the layer really reads: at valid tokens, and at padding too where a student attends to it.
Of many ranges the one with the least squared error is taken, so that a few far numbers may be clipped for a finer step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from litetext.checkpoints.shapes import LINEAR_LAYERS
from litetext.encoders.inputs import evaluating, prepare_rows
from litetext.encoders.quantized import dequantize_activation, quantize_activation
from litetext.encoders.student import TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import Progress

BINS = 4096  # 16 for each step of the widest range
SHARES = tuple(number / 20 for number in range(20, 5, -1))  # of the lowest and of the highest number
BATCH = 64


def calibrate(student: TextStudent, texts: Sequence[str], progress: Progress | None = None) -> dict[str, Tensor]:
    """The input range of each linear layer.

    The texts are read twice: for the widest ranges, then for the distribution within them. The same texts give the same
    ranges, whatever their order.

    Args:
        student: in floating point.
        texts: at least one.
        progress: called with the share done, 0..1.

    Returns:
        float32 [2] by the layer's name: low <= 0 <= high, not both 0.

    Raises:
        OptionError: no texts.
        EncoderError: a layer reads numbers that are not finite.
    """
    if not texts:
        raise OptionError("no phrases to calibrate with", hint="give at least one")
    order = sorted(texts, key=lambda text: (len(text), text), reverse=True)
    widest: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}

    def widen(name: str, values: Tensor) -> None:
        ends = torch.stack(values.aminmax())
        known = widest.get(name, torch.zeros(2))
        widest[name] = torch.stack((torch.minimum(known[0], ends[0]), torch.maximum(known[1], ends[1])))

    def count(name: str, values: Tensor) -> None:
        low, high = widest[name].tolist()
        counts[name] = counts.get(name, 0) + torch.histc(values, BINS, low, high).double()

    def half(first: float) -> Progress:
        return lambda share: None if progress is None else progress(first + share / 2)

    _read(student, order, widen, half(0.0))
    for name, ends in widest.items():
        if not bool(ends.isfinite().all()):
            raise EncoderError(f"what '{name}' reads is not finite", hint="give a student whose features are")
        if ends[0] == ends[1]:  # both 0
            widest[name] = torch.tensor([0.0, 1.0])
    _read(student, order, count, half(0.5))
    return {name: best_range(counts[name], widest[name]) for name in widest}


def best_range(counts: Tensor, widest: Tensor) -> Tensor:
    """The range with the least squared error of quantization, float32 [2].

    Args:
        counts: [N], how many numbers are in each of N equal bins of the widest range.
        widest: float32 [2], low <= 0 <= high, not both 0: the range that clips nothing.
    """
    low, high = widest.tolist()
    edges = torch.linspace(low, high, len(counts) + 1, dtype=torch.float64)
    centres = ((edges[:-1] + edges[1:]) / 2).float()
    tried = [torch.tensor([low * one, high * other]) for one in SHARES for other in SHARES]
    errors = [
        float((counts * (dequantize_activation(quantize_activation(centres, ends), ends) - centres).square()).sum())
        for ends in tried
    ]
    return tried[errors.index(min(errors))]  # of equals the widest


def linear_layers(student: TextStudent) -> dict[str, nn.Module]:
    """The layers that can be quantized, by name."""
    return {name: module for name, module in student.named_modules() if name.rpartition(".")[2] in LINEAR_LAYERS}


def _read(student: TextStudent, texts: Sequence[str], see: Callable[[str, Tensor], None], progress: Progress) -> None:
    """Show what each linear layer reads, float32 [N], batch by batch."""
    config = student.config
    with torch.no_grad(), evaluating(student):
        for start in range(0, len(texts), BATCH):
            some = texts[start : start + BATCH]
            batch = prepare_rows(some, config)
            ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
            with _watching(student, mask if config.padding == "masked" else torch.ones_like(mask), see):
                student(ids, mask)
            progress((start + len(some)) / len(texts))


@contextmanager
def _watching(student: TextStudent, read: Tensor, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While the block runs, each linear layer shows its input at the tokens [B, L] that are read."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _, inputs: see(name, inputs[0][read].float().flatten())

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in linear_layers(student).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
