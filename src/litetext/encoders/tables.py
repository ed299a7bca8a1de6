"""Token tables of low rank: most of a small text encoder is its table, and most of that is not needed."""

import torch
from torch import Tensor, nn

from litetext.errors import OptionError


class FactorisedTable(nn.Embedding):
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
    """A token table: whole for a rank of None, else factorised."""
    return nn.Embedding(vocabulary, width) if rank is None else FactorisedTable(vocabulary, rank, width)


@torch.no_grad()
def factorise_table(table: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The two weights of the `FactorisedTable` nearest to a table: no other of this rank has a smaller squared error.

    Source: Eckart and Young (1936). The columns of the second are orthonormal. Both are computed in float64.

    Args:
        table: floating point [V, C].
        rank: r, at most V and C.

    Returns:
        ``weight`` [V, r] and ``up.weight`` [C, r], in the table's number type on its device.

    Raises:
        OptionError: not a table, or no such rank.
    """
    if table.ndim != 2 or not 1 <= rank <= min(table.shape):
        raise OptionError(f"a table {list(table.shape)} at rank {rank}", mend="give [V, C] and a rank of at most both")
    exact = table.detach().cpu().double()
    directions = torch.linalg.eigh(exact.T @ exact).eigenvectors[:, -rank:].flip(1)  # [C, r], the largest first
    return (exact @ directions).to(table), directions.contiguous().to(table)
