"""Token tables of low rank: most of a small text encoder is its table, and most of that is not needed."""

import torch
from torch import Tensor, nn

from litetext.errors import OptionError


class FactorizedTable(nn.Embedding):
    """A token table [V, C] that is the product of two: a row of r numbers for each token, and a linear layer r -> C.

    Parameters: ``weight`` [V, r]; ``up.weight`` [C, r].

    Args:
        vocabulary: rows V.
        rank: r.
        width: channels C.
    """

    def __init__(self, vocabulary: int, rank: int, width: int) -> None:
        super().__init__(vocabulary, rank)
        self.up = nn.Linear(rank, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors [..., C] of ids [...], int64."""
        vectors: Tensor = self.up(super().forward(ids))
        return vectors


def token_table(vocabulary: int, rank: int | None, width: int) -> nn.Embedding:
    """A token table: whole for a rank of None, else factorized."""
    return nn.Embedding(vocabulary, width) if rank is None else FactorizedTable(vocabulary, rank, width)


@torch.no_grad()
def factorize_table(table: Tensor, rank: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The two weights of the `FactorizedTable` nearest to a table: no other of this rank has a smaller squared error.

    Source: Eckart and Young (1936). The columns of the second are orthonormal. Both are computed in float64.

    Args:
        table: floating point [V, C].
        rank: r, at most V and C.
        weights: [V], at least 0: how much the squared error of each row counts; None for all alike.

    Returns:
        ``weight`` [V, r] and ``up.weight`` [C, r], in the table's number type on its device.

    Raises:
        OptionError: not a table, no such rank, or other weights than one for each row.
    """
    if table.ndim != 2 or not 1 <= rank <= min(table.shape):
        raise OptionError(f"a table {list(table.shape)} at rank {rank}", hint="give [V, C] and a rank of at most both")
    _, directions = _directions(table, weights)
    directions = directions[:, :rank]
    return (_exact(table) @ directions).to(table), directions.contiguous().to(table)


@torch.no_grad()
def table_variances(table: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sums of squares of a table [V, C] along its principal directions, the largest first: float64 [C].

    What `factorize_table` loses at a rank is the sum of those after it.
    """
    variances, _ = _directions(table, weights)
    return variances.clamp_min(0.0)


def _directions(table: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Eigenvalues [C] and eigenvectors [C, C] of the weighted products of columns, the largest first."""
    exact = _exact(table)
    if weights is not None and weights.shape != exact.shape[:1]:
        raise OptionError(
            f"weights {list(weights.shape)} for a table {list(exact.shape)}", hint="give one for each row"
        )
    weighted = exact if weights is None else exact * _exact(weights)[:, None]
    values, vectors = torch.linalg.eigh(exact.T @ weighted)
    return values.flip(0), vectors.flip(1)


def _exact(x: Tensor) -> Tensor:
    return x.detach().cpu().double()
