"""Features of texts without their padding, and padded again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from litetext.errors import EncoderError
from litetext.features.protocol import TextEncoder, TextFeatures

if TYPE_CHECKING:
    from torch import Tensor


def valid_rows(encoder: TextEncoder, texts: Sequence[str]) -> "list[Tensor]":
    """Features of the valid tokens of each text, [L_i, D].

    The decoder's attention knows no order of the prompt's tokens, so that what lies between valid ones can be left out.

    Raises:
        EncoderError: the encoder fails, or gives another number of texts or features that are not finite.
    """
    features = encoder.encode(texts)
    if len(features.values) != len(texts):
        raise EncoderError(f"features of {len(features.values)} texts instead of {len(texts)}", where=encoder.name)
    rows = [values[mask] for values, mask in zip(features.values, features.mask, strict=True)]
    for text, row in zip(texts, rows, strict=True):
        if not bool(row.isfinite().all()):
            raise EncoderError(
                f"the features of '{text}' are not finite", where=encoder.name, hint="compute in float32"
            )
    return rows


def pad_rows(rows: "Sequence[Tensor]", like: "Tensor", least: int = 0) -> TextFeatures:
    """Rows [L_i, D] as one batch [B, L, D] with a mask, zeros as padding.

    Args:
        rows: B of them.
        like: says device and number type.
        least: the least L.
    """
    import torch

    length = max(least, *(len(row) for row in rows))
    values = torch.zeros((len(rows), length, rows[0].shape[1]), device=like.device, dtype=like.dtype)
    mask = torch.zeros((len(rows), length), device=like.device, dtype=torch.bool)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row.to(values)
        mask[index, : len(row)] = True
    return TextFeatures(values, mask)
