"""What `litetext inspect` says of a checkpoint, from names and shapes alone: no weights are read."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from litetext.checkpoints.hub import locate
from litetext.checkpoints.load import PRETRAINED_ROWS
from litetext.checkpoints.reader import Checkpoint, describe_sizes, open_checkpoint
from litetext.checkpoints.shapes import PACKED, UNUSED, is_parameter, part_of
from litetext.checkpoints.tensors import ITEM_BYTES

PARTS = ("token_table", "positions", "blocks", "final_norm", "projector", UNUSED)


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint's text encoder.

    Attributes:
        path: the file or folder.
        file_bytes: its size on disk.
        format: the name of its format.
        title: the format for people.
        model: "student" or "teacher".
        variant: a name of `PRESETS`, the name in our own format, or "custom".
        layout: width and blocks in words.
        rows: rows of the position table.
        vocabulary: rows of the token table.
        is_pruned: whether these are some of CLIP's tokens, with a tokenizer of their own.
        rank: rank of a factorized token table; None for a whole one.
        heads: attention heads; None where neither the file nor the presets say.
        output: width after the projector; None without one, in which case it can only start a training.
        padding: "attended" or "masked"; None where the format does not say.
        quantized: what of it is int8 or int4, in words; "" where everything is floating point.
        dtypes: tensors of each number type, the commonest first.
        text_bytes: bytes of the text encoder's tensors.
        tensors: how many tensors these are.
        other_tensors: how many tensors of other parts are in the file.
        parts: parameters of each part, the unused projection last.
        faults: what is wrong with it, in one line; "" if nothing is.
    """

    path: str
    file_bytes: int
    format: str
    title: str
    model: str
    variant: str
    layout: str
    rows: int
    vocabulary: int
    is_pruned: bool
    rank: int | None
    heads: int | None
    output: int | None
    padding: str | None
    quantized: str
    dtypes: dict[str, int]
    text_bytes: int
    tensors: int
    other_tensors: int
    parts: dict[str, int]
    faults: str

    @property
    def parameters(self) -> int:
        """All parameters, as the paper counts them: the unused projection is among them."""
        return sum(self.parts.values())

    @property
    def used_parameters(self) -> int:
        """Parameters without the unused projection."""
        return self.parameters - self.parts[UNUSED]

    @property
    def loads_without_choice(self) -> bool:
        """Whether `load_encoder` needs no word on the position table."""
        return self.output is not None and self.rows != PRETRAINED_ROWS

    def to_json(self) -> dict[str, Any]:
        """Plain values, the sums among them."""
        return vars(self) | {
            "parameters": self.parameters,
            "used_parameters": self.used_parameters,
            "loads_without_choice": self.loads_without_choice,
        }

    def lines(self) -> list[str]:
        """For people: a name and a value on each line."""
        heads = "unknown" if self.heads is None else str(self.heads)
        output = "none: for the start of a training only" if self.output is None else f"{self.output} wide"
        choice = "" if self.rows != PRETRAINED_ROWS else " (load it with positions=slice or interpolate, and a context)"
        pruned = ", pruned: it has its own tokenizer" if self.is_pruned else ""
        factorized = "" if self.rank is None else f", factorized: rank {self.rank}"
        variant = self.model if self.variant == self.model else f"{self.model} {self.variant}"
        rows = [
            ("file", f"{self.path} ({_bytes(self.file_bytes)})"),
            ("format", f"{self.format}: {self.title}"),
            ("variant", f"{variant}: {self.layout}, {heads} heads"),
            ("position table", f"{self.rows} rows{choice}"),
            ("token table", f"{self.vocabulary:,} rows{factorized}{pruned}"),
            ("projector", output),
            ("padding", self._padding()),
            *([("quantized", self.quantized)] if self.quantized else []),
            ("number type", ", ".join(f"{name} ({count})" for name, count in self.dtypes.items())),
            (
                "text side",
                f"{self.tensors} tensors, {_bytes(self.text_bytes)}; {self.other_tensors} others in the file",
            ),
            ("parameters", f"{self.parameters:,} ({self.used_parameters:,} without the unused projection)"),
            *((f"  {name.replace('_', ' ')}", f"{count:,}") for name, count in self.parts.items()),
            ("faults", self.faults or "none"),
        ]
        return [f"{name:<20} {value}" for name, value in rows]

    def _padding(self) -> str:
        if self.model == "teacher":
            return "changes nothing: attention looks back only"
        return self.padding or "not said by the format; the released students attend to it"


def summarize_checkpoint(path_or_id: str) -> CheckpointSummary:
    """Recognize and measure a checkpoint; one that is not whole is described too, with its faults.

    Raises:
        EncoderError: not a file of tensors, or no (single) text encoder in it.
        MissingExtraError: a file that ``torch.save`` wrote, without PyTorch installed.
    """
    return summarize(open_checkpoint(locate(path_or_id)))


def summarize(checkpoint: Checkpoint) -> CheckpointSummary:
    """Measure a checkpoint."""
    entries = list(checkpoint.entries())
    parts = dict.fromkeys(PARTS, 0)
    for name, entry in entries:
        if is_parameter(name):
            parts[part_of(name)] += entry.size * (2 if entry.dtype == PACKED else 1)
    floating = Counter(entry.dtype for name, entry in entries if is_parameter(name))
    preset = checkpoint.preset
    return CheckpointSummary(
        path=checkpoint.where,
        file_bytes=checkpoint.source.size,
        format=checkpoint.format.name,
        title=checkpoint.format.title,
        model=checkpoint.model,
        variant=checkpoint.own.name if checkpoint.own else preset.name if preset else "custom",
        layout=describe_sizes(checkpoint.sizes),
        rows=checkpoint.sizes.rows,
        vocabulary=checkpoint.sizes.vocabulary,
        is_pruned=checkpoint.own is not None and checkpoint.own.kept is not None,
        rank=checkpoint.sizes.rank,
        heads=checkpoint.heads,
        output=checkpoint.sizes.output,
        padding=checkpoint.own.padding if checkpoint.own else None,
        quantized=checkpoint.own.describe_quantized() if checkpoint.own else "",
        dtypes=dict(floating.most_common()),
        text_bytes=sum(entry.size * ITEM_BYTES.get(entry.dtype, 0) for _, entry in entries),
        tensors=len(entries),
        other_tensors=len(checkpoint.source.entries) - len(entries),
        parts=parts,
        faults=checkpoint.faults().describe(),
    )


def _bytes(count: int) -> str:
    """A size on disk for people."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
