"""Positions: how alike the rows of a learned position table are, and where its energy lies.

Cosines are raw, NOT centred: a direction that all rows share is part of what the model adds at every position, so it
counts as redundancy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from litetext.arrays import as_matrix, load_matrix
from litetext.auditing.dimensions import effective_rank
from litetext.checkpoints.tensors import open_tensors
from litetext.errors import ArrayError

Matrix = npt.NDArray[np.float64]

TABLE_NAMES = (
    "positional_embedding.pos_embed.pos_embed",  # SAM3-LiteText, MobileCLIP: [1, 1, T, C]
    "positional_embedding",  # CLIP, sam3.pt: [T, C]
    "position_embedding.position_embedding",  # SAM3-LiteText in transformers
    "position_embedding.weight",  # CLIP in transformers
    "position_embeddings.weight",  # BERT, which is no format of `checkpoints`
    "positions",  # LiteText
)
"""How the names of position tables end, below whatever prefix a file has."""

IMAGE_PARTS = ("vision", "visual", "image")
"""What the names of an image tower's tensors contain."""
_BLOCK = 8  # rows


@dataclass(frozen=True)
class PositionStats:
    """What a position table [T, C] holds, in plain numbers."""

    rows: int  # T
    width: int  # C
    cosine: list[list[float]]  # [T][T], raw cosine between any two rows (not centred); 0 with a row of zeros
    adjacent: float | None  # mean cosine between a row and the next; None for a single row
    # of each block of rows its `first` and `last` row and the mean `cosine` between two different rows of it (None
    # for a single row); the last block may be shorter
    blocks: tuple[dict[str, float | None], ...]
    energy: list[float]  # [T], squared norm of each row as a share of their sum
    cumulative: list[float]  # [T], share of the energy in the rows up to and including this one
    effective_rank: float  # exponential of the entropy of the singular values of the table (not centred): 1..min(T, C)


def measure_positions(table: npt.NDArray[np.float32]) -> PositionStats:
    """Similarity, redundancy and energy of the rows of a position table [T, C], also by blocks of 8 rows."""
    rows = as_matrix(table, "the position table").astype(np.float64)
    if not rows.any():
        raise ArrayError("all its numbers are 0", where="the position table", hint="give a trained table")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(norms > 0, norms, 1.0)
    cosine = np.clip(unit @ unit.T, -1.0, 1.0)
    energy = norms[:, 0] ** 2 / (norms**2).sum()
    return PositionStats(
        rows=rows.shape[0],
        width=rows.shape[1],
        cosine=cosine.tolist(),
        adjacent=float(np.diagonal(cosine, offset=1).mean()) if len(rows) > 1 else None,
        blocks=tuple(_block(cosine, start, min(start + _BLOCK, len(rows))) for start in range(0, len(rows), _BLOCK)),
        energy=energy.tolist(),
        cumulative=np.cumsum(energy).tolist(),
        effective_rank=effective_rank(np.linalg.svd(rows, compute_uv=False)),
    )


def load_positions(spec: str) -> npt.NDArray[np.float32]:
    """Read a position table [T, C] from ``FILE`` or ``FILE#NAME``: .npy, .npz, .safetensors, .pt or .pth.

    Without a name, a checkpoint's table of the text side is found by how such tables are called (`TABLE_NAMES`); a file
    with one array may call it anything. In a checkpoint the end of a name is enough, if only one name ends so. Leading
    axes of length 1 are dropped. No code in the file is run.

    Raises:
        ArrayError: no such file or tensor, no table or several, or not a table of finite numbers.
        EncoderError: a checkpoint that is broken, or that holds more than tensors.
        MissingExtraError: a .pt or .pth file without PyTorch installed.
    """
    file, _, wanted = spec.partition("#")
    path = Path(file)
    if path.is_file() and path.suffix in (".pt", ".pth"):
        checkpoint = open_tensors(path)
        name = choose_table(checkpoint.entries, wanted, file)
        ((_, table),) = checkpoint.read([name])
        return as_matrix(table.detach().float().numpy(), f"{file}#{name}")
    if path.is_file() and path.suffix == ".safetensors":
        wanted = choose_table(open_tensors(path).entries, wanted, file)
    return load_matrix(f"{file}#{wanted}" if wanted else file)


def choose_table(names: Iterable[str], wanted: str, where: str) -> str:
    """The one tensor of these that is the position table of the text side.

    ``wanted`` is its name, or the end of it after a dot; empty, it is found by `TABLE_NAMES`.
    """
    listed = sorted(names)
    if wanted in listed:
        return wanted
    if not wanted and len(listed) == 1:
        return listed[0]
    endings = tuple(f".{ending}" for ending in ((wanted,) if wanted else TABLE_NAMES))
    found = [name for name in listed if f".{name}".endswith(endings)]
    if not wanted:
        found = [name for name in found if not any(part in name for part in IMAGE_PARTS)]
    if len(found) == 1:
        return found[0]
    shown = found or listed
    names_shown = ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
    kind = f"called '{wanted}'" if wanted else "called like a position table"
    hint = f"give FILE#NAME; it has: {names_shown}"
    raise ArrayError(f"{len(found) or 'no'} tensors are {kind}", where=where, hint=hint)


def _block(cosine: Matrix, start: int, stop: int) -> dict[str, float | None]:
    above = cosine[start:stop, start:stop][np.triu_indices(stop - start, k=1)]
    return {"first": start, "last": stop - 1, "cosine": float(above.mean()) if above.size else None}
