"""Features by hand, and padding that spoils whatever reads it."""

from collections.abc import Sequence

import torch

from litetext.features.protocol import TextFeatures


def features(rows: Sequence[Sequence[Sequence[float]]], length: int, poison: float = float("nan")) -> TextFeatures:
    """Features of texts from their valid tokens, on the right of which stands poison up to a length."""
    values = torch.full((len(rows), length, len(rows[0][0])), poison)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        values[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = True
    return TextFeatures(values.requires_grad_(), mask)


def random_features(lengths: Sequence[int], length: int, width: int, seed: int = 0) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    return features([torch.randn(n, width, generator=generator).tolist() for n in lengths], length)


def gradient(loss: torch.Tensor, of: TextFeatures) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, of.values, retain_graph=True)
    return found
