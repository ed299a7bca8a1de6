"""Converting checkpoints between upstream's format, Hugging Face's and our own, tensor for tensor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.checkpoints.formats import FAMILIES, writable
from litetext.checkpoints.hub import locate
from litetext.checkpoints.reader import open_checkpoint
from litetext.checkpoints.writer import Identity, check_target, save_encoder
from litetext.errors import OptionError


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        source: what was read.
        target: what was written.
        source_format: the name of the format that was read.
        target_format: the name of the format that was written.
        variant: the preset that it is, or "custom".
        tensors: how many were read.
        rows: rows of the position table, which is never resized.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    variant: str
    tensors: int
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def convert_checkpoint(source: str, target: Path, family: str, *, heads: int | None = None) -> Conversion:
    """Write the text encoder of a checkpoint in another format, bit for bit in the same number types.

    Args:
        source: as `load_encoder` takes it.
        target: the file to write; for "huggingface" a folder, unless it ends in `.safetensors`.
        family: "litetext", "upstream" or "huggingface".
        heads: attention heads, for sizes that are of no preset in a format that does not store them.

    Raises:
        EncoderError: not a whole text encoder, or the format cannot hold it.
        OptionError: no such format.
        OutputError: the target is the source, cannot be written, or is a folder with other files.
        MissingExtraError: PyTorch is not installed.
    """
    if family not in FAMILIES:
        raise OptionError(f"no format is called '{family}'", where="--to", hint=f"give {', '.join(FAMILIES)}")
    path = locate(source)
    check_target(target, family, [path])
    checkpoint = open_checkpoint(path, heads=heads)
    config = checkpoint.config()
    tensors = dict(checkpoint.read())
    save_encoder(Identity(checkpoint.model, config), tensors.items(), target, family)
    return Conversion(
        source=str(path),
        target=str(target),
        source_format=checkpoint.format.name,
        target_format=writable(family, checkpoint.model).name,
        variant=config.name,
        tensors=len(tensors),
        rows=config.context_length,
    )
