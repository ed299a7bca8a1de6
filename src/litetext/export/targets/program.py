"""The program that mobile engines run: a student behind the inputs and outputs that SAM3 pipelines use."""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.functional import pad

from litetext.encoders.encoder import evaluating
from litetext.encoders.layers import token_table
from litetext.encoders.quantized import QuantizedLinear, QuantizedTable, dequantize_table, dequantize_weight
from litetext.encoders.student import TextStudent
from litetext.errors import OptionError
from litetext.export.targets import INPUTS
from litetext.tokenizer.pruned import kept_tokens
from litetext.tokenizer.vocabulary import END_ID, PAD_ID, VOCABULARY_SIZE


class ServedProgram(nn.Module):
    """A folded student that takes CLIP's ids, however padded, at a length L that may be other than its context.

    What stands where the mask is 0 is replaced by the pad id 0 (Hugging Face pads with 49,407). Of a text longer than
    the context T the first T tokens are read, and the last of them becomes the end token. An id that the student has no
    row for makes all features of its text not-a-number: no engine reads the row of another token, or memory beyond.
    """

    rows: Tensor | None

    def __init__(self, student: TextStudent, length: int) -> None:
        super().__init__()
        config = student.config
        if not config.folded:
            raise OptionError("a student that is not folded", where=config.name, hint="fold it first")
        self.student = student.eval()
        self.length = length
        self.context_length = config.context_length
        self.ids = config.vocabulary if config.kept is None else VOCABULARY_SIZE
        # A student with attended padding reads its whole context, however short the ids are.
        self.read = config.context_length if config.padding == "attended" else min(length, config.context_length)
        rows = None if config.kept is None else torch.from_numpy(kept_tokens(config.kept).rows).to(torch.int32)
        self.register_buffer("rows", rows)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features and mask of CLIP's ids and a mask, int64 or int32 [B, L], 0 at padding, which is on the right.

        Returns:
            ``text_features`` [B, L, D], zero where the mask is False, and ``text_mask`` bool [B, L], True at tokens
            that were read.
        """
        mask = attention_mask != 0
        seen = _at_length(mask, self.read)
        ids = _at_length(input_ids, self.read).masked_fill(~seen, PAD_ID)
        if self.length > self.context_length:
            last = ids[:, -1:].masked_fill(mask[:, self.context_length : self.context_length + 1], END_ID)
            ids = torch.cat([ids[:, :-1], last], dim=1)
        rows, lost = self._rows(ids)
        features = self.student(rows, seen)
        features = features.masked_fill(~seen[:, :, None], 0.0).masked_fill(lost[:, None, None], torch.nan)
        return _at_length(features, self.length), _at_length(seen, self.length)

    def _rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, T] of the token table, and which texts [B] hold an id that has none."""
        # Filled, not clamped: Core ML in float16 clamps integers in float16, which has none between 2,048 and 2,050.
        lost = torch.logical_or(ids < 0, ids >= self.ids)
        rows = ids.masked_fill(lost, 0)
        if self.rows is not None:
            rows = self.rows[rows]
            lost = torch.logical_or(lost, rows < 0)
            rows = rows.masked_fill(lost, 0)
        return rows, lost.any(dim=1)


def _at_length(x: Tensor, length: int) -> Tensor:
    """The first ``length`` tokens of [B, L, ...], or zeros (False) behind those that there are."""
    missing = length - x.shape[1]
    if missing <= 0:
        return x[:, :length] if missing else x
    return pad(x, (0, missing) if x.ndim == 2 else (0, 0, 0, missing))


def with_float_weights(student: TextStudent, *, table: bool = False) -> TextStudent:
    """A copy with the same numbers in floating point: linear layers, and if asked the token table.

    Mobile engines quantize inputs in their own way. Weights that are quantized again by output channel are the same.
    """
    plain = copy.deepcopy(student)
    for part in [plain, *plain.modules()]:
        for name, layer in part.named_children():
            if isinstance(layer, QuantizedLinear):
                linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
                weight = dequantize_weight(layer.weight, layer.scale)
                linear.load_state_dict({"weight": weight, "bias": layer.bias})
                setattr(part, name, linear)
    packed, config = plain.token_table, plain.config
    if table and isinstance(packed, QuantizedTable):
        plain.token_table = token_table(config.vocabulary, None if packed.up is None else config.rank, config.width)
        up = {} if packed.up is None else {"up.weight": packed.up.weight}
        plain.token_table.load_state_dict({"weight": dequantize_table(packed.weight, packed.scale), **up})
    return plain


def export_program(program: ServedProgram, batch: int | None, most: int = 2) -> ExportedProgram:
    """The graph of a program for batches of a size; None for 1 to ``most``, which is at least 2."""
    shape = (most if batch is None else batch, program.length)
    inputs = torch.zeros(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64)
    with torch.no_grad(), evaluating(program):
        return torch.export.export(program, inputs, dynamic_shapes=batch_axes(batch, most))


def batch_axes(batch: int | None, most: int) -> tuple[dict[int, torch.export.Dim], ...] | None:
    """For each input, its first axis as a batch of 1 to ``most``; None where the batch is fixed."""
    return None if batch is not None else ({0: torch.export.Dim("batch", min=1, max=most)},) * len(INPUTS)


@contextmanager
def quiet_converter() -> Iterator[None]:
    """No warnings, log lines or progress bars of converters (untested versions, deprecated functions) in the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
