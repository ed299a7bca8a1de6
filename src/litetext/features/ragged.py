"""Padding: the features of texts as one padded batch, and as a list without padding; in NumPy and in PyTorch alike."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np


def pad(rows: Sequence[Any], *, least: int = 0, like: Any = None) -> tuple[Any, Any]:
    """Features of B texts as values [B, L, D], zeros at padding, and a mask bool [B, L], True at valid tokens.

    There is at least one array or tensor [L_i, D], and L is at least ``least``. Arrays become float32; tensors get the
    device and dtype of ``like``, or of the first.
    """
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(max(least, lengths.max())) < lengths[:, None]
    shape = (*mask.shape, rows[0].shape[1])
    if isinstance(rows[0], np.ndarray):
        values = np.zeros(shape, np.float32)
        for padded, row in zip(values, rows, strict=True):  # faster than by the mask
            padded[: len(row)] = row
        return values, mask
    import torch

    like = rows[0] if like is None else like
    values, valid = like.new_zeros(shape), torch.from_numpy(mask).to(like.device)
    values[valid] = torch.cat(list(rows)).to(like)
    return values, valid


def split(tokens: Any, mask: Any) -> list[Any]:
    """The tokens of each text, [L_i, D], of the valid tokens [T, D] of a batch: its values [B, L, D] at the mask.

    SAM3's decoder attends to the tokens of a prompt in any order, so that gaps between valid tokens may be left out.
    """
    ends = mask.sum(1).cumsum(0).tolist()
    return [tokens[start:end] for start, end in pairwise([0, *ends])]
