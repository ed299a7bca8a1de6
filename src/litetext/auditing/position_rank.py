"""Positions: how alike the rows of a learned position table are, and where its energy lies.

Cosines are raw, NOT centred: a direction that all rows share is part of what the model adds at every position, so it
counts as redundancy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.auditing.spectrum import effective_rank
from litetext.checkpoints.tensors import open_tensors
from litetext.errors import ArrayError, OptionError
from litetext.storage import load_matrix

Matrix = npt.NDArray[np.float64]

TORCH_SUFFIXES = (".pt", ".pth")
TABLE_NAMES = (
    "positional_embedding.pos_embed.pos_embed",  # SAM3-LiteText, MobileCLIP: [1, 1, T, C]
    "positional_embedding",  # CLIP, sam3.pt: [T, C]
    "position_embedding.position_embedding",  # SAM3-LiteText in transformers
    "position_embedding.weight",  # CLIP in transformers
    "position_embeddings.weight",  # BERT
    "positions",  # LiteText
)
"""How the names of position tables end."""

IMAGE_PARTS = ("vision", "visual", "image")
"""What the names of an image tower's tensors contain."""


@dataclass(frozen=True)
class BlockRedundancy:
    """Some neighboring rows of a position table.

    Attributes:
        first: first position.
        last: last position.
        cosine: mean cosine between two different rows of the block; None for a single row.
    """

    first: int
    last: int
    cosine: float | None


@dataclass(frozen=True, eq=False)
class PositionStats:
    """What a position table [T, C] holds.

    Attributes:
        rows: T.
        width: C.
        cosine: float64 [T, T], raw cosine between any two rows (not centred); 0 with a row of zeros.
        adjacent: mean cosine between a row and the next; None for a single row.
        blocks: redundancy of the rows by block; the last block may be shorter.
        energy: float64 [T], squared norm of each row as a share of their sum.
        cumulative: float64 [T], share of the energy in the rows up to and including this one.
        effective_rank: exponential of the entropy of the singular values of the table (not centred): 1..min(T, C).
    """

    rows: int
    width: int
    cosine: Matrix
    adjacent: float | None
    blocks: tuple[BlockRedundancy, ...]
    energy: npt.NDArray[np.float64]
    cumulative: npt.NDArray[np.float64]
    effective_rank: float

    def to_json(self) -> dict[str, Any]:
        """Plain finite numbers, None where a figure is undefined; the cosine matrix as a list of T rows."""
        return {
            "rows": self.rows,
            "width": self.width,
            "adjacent": self.adjacent,
            "blocks": [{"first": b.first, "last": b.last, "cosine": b.cosine} for b in self.blocks],
            "energy": self.energy.tolist(),
            "cumulative": self.cumulative.tolist(),
            "effective_rank": self.effective_rank,
            "cosine": self.cosine.tolist(),
        }


def measure_positions(table: npt.NDArray[np.float32], block: int = 8) -> PositionStats:
    """Similarity, redundancy and energy of the rows of a position table [T, C].

    Args:
        table: finite numbers, at least one of them not zero.
        block: rows of a block.

    Raises:
        ArrayError: not such a table.
        OptionError: a block has fewer than two rows.
    """
    if block < 2:
        raise OptionError(f"blocks of {block} rows", hint="give 2 or more")
    rows = _checked(table, "the position table").astype(np.float64)
    cosine = cosine_matrix(rows)
    squares = (rows**2).sum(axis=1)
    energy = squares / squares.sum()
    starts = range(0, len(rows), block)
    return PositionStats(
        rows=rows.shape[0],
        width=rows.shape[1],
        cosine=cosine,
        adjacent=float(np.diagonal(cosine, offset=1).mean()) if len(rows) > 1 else None,
        blocks=tuple(_block(cosine, start, min(start + block, len(rows))) for start in starts),
        energy=energy,
        cumulative=np.cumsum(energy),
        effective_rank=effective_rank(np.linalg.svd(rows, compute_uv=False)),
    )


def cosine_matrix(rows: Matrix) -> Matrix:
    """Cosine between any two of the rows [T, C]: [T, T], 0 with a row of zeros, itself included."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(norms > 0, norms, 1.0)
    cosine: Matrix = np.clip(unit @ unit.T, -1.0, 1.0)
    return cosine


def load_positions(spec: str, name: str | None = None) -> npt.NDArray[np.float32]:
    """Read a position table [T, C] from ``FILE`` or ``FILE#NAME``: .npy, .npz, .safetensors, .pt or .pth.

    Without a name, a checkpoint's table of the text side is found by how such tables are called (`TABLE_NAMES`); a file
    with one array may call it anything. Leading axes of length 1 are dropped. No code in the file is run.

    Args:
        spec: the file, with or without a tensor's name after ``#``.
        name: the tensor's name, instead of ``#NAME``. In a checkpoint its end is enough, if only one name ends so.

    Raises:
        ArrayError: no such file or tensor, no table or several, or not a table of finite numbers.
        EncoderError: a checkpoint that is broken, or that holds more than tensors.
        MissingExtraError: a .pt or .pth file without PyTorch installed.
    """
    file, _, fragment = spec.partition("#")
    path, wanted = Path(file), name or fragment
    if path.is_file() and path.suffix in TORCH_SUFFIXES:
        checkpoint = open_tensors(path)
        key = choose_table(checkpoint.entries, wanted, file)
        ((_, table),) = checkpoint.read([key])
        return _checked(table.detach().float().numpy(), f"{file}#{key}").astype(np.float32)
    if path.is_file() and path.suffix == ".safetensors":
        wanted = choose_table(open_tensors(path).entries, wanted, file)
    return load_matrix(f"{file}#{wanted}" if wanted else file)


def choose_table(names: Iterable[str], wanted: str, where: str) -> str:
    """The tensor of a checkpoint that is the position table of the text side, or the one called ``wanted``.

    Args:
        names: names of all its tensors.
        wanted: a name, or its end after a dot; "" to go by `TABLE_NAMES`.
        where: the file, for errors.

    Raises:
        ArrayError: none is, or several are.
    """
    listed = sorted(names)
    if wanted in listed:
        return wanted
    if not wanted and len(listed) == 1:
        return listed[0]
    endings = tuple(f".{ending}" for ending in ((wanted,) if wanted else TABLE_NAMES))
    found = [key for key in listed if f".{key}".endswith(endings)]
    if not wanted:
        found = [key for key in found if not any(part in key for part in IMAGE_PARTS)]
    if len(found) == 1:
        return found[0]
    shown = found or listed
    names_shown = ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
    sought = f"called '{wanted}'" if wanted else "called like a position table"
    raise ArrayError(
        f"{len(found) or 'no'} tensors are {sought}", where=where, hint=f"say FILE#NAME; it has: {names_shown}"
    )


def _block(cosine: Matrix, start: int, stop: int) -> BlockRedundancy:
    """Redundancy of the rows from ``start`` to before ``stop``."""
    above = cosine[start:stop, start:stop][np.triu_indices(stop - start, k=1)]
    return BlockRedundancy(start, stop - 1, float(above.mean()) if above.size else None)


def _checked(table: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """The table without leading axes of length 1, if it is one of finite numbers that are not all zero."""
    while table.ndim > 2 and table.shape[0] == 1:
        table = table[0]
    if table.ndim != 2 or 0 in table.shape:
        raise ArrayError(f"shape {list(table.shape)} is not [positions, width]", where=where, hint="give a matrix")
    if not np.isfinite(table).all():
        raise ArrayError("NaN or infinity in it", where=where, hint="check the training that made it")
    if not table.any():
        raise ArrayError("all its numbers are 0", where=where, hint="give a trained table")
    return table
