"""What `litetext inspect` says of a checkpoint, from names and shapes alone: no weights are read."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from litetext.checkpoints.hub import is_other_model, locate
from litetext.checkpoints.load import PRETRAINED_ROWS
from litetext.checkpoints.reader import open_checkpoint
from litetext.checkpoints.schema import PACKED, PARTS, UNUSED, is_parameter, part_of
from litetext.features.protocol import TextEncoder


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
        padding = self.padding or "not in the file; the released students attend to it"
        if self.model == "teacher":
            padding = "changes nothing: attention looks back only"
        rows = {
            "file": f"{self.path} ({_bytes(self.file_bytes)})",
            "format": f"{self.format}: {self.title}",
            "variant": f"{variant}: {self.layout}, {heads} heads",
            "position table": f"{self.rows} rows{choice}",
            "token table": f"{self.vocabulary:,} rows{factorized}{pruned}",
            "projector": output,
            "padding": padding,
            "quantized": self.quantized,
            "number type": ", ".join(f"{name} ({count})" for name, count in self.dtypes.items()),
            "text side": f"{self.tensors} tensors, {_bytes(self.text_bytes)}; {self.other_tensors} others in the file",
            "parameters": f"{self.parameters:,} ({self.used_parameters:,} without the unused projection)",
            **{f"  {name.replace('_', ' ')}": f"{count:,}" for name, count in self.parts.items()},
            "faults": self.faults or "none",
        }
        return [f"{name:<20} {value}" for name, value in rows.items() if value]


def summarize_checkpoint(path_or_id: str) -> CheckpointSummary:
    """Recognize and measure a checkpoint; one that is not whole is described too, with its faults.

    Raises:
        EncoderError: not a file of tensors, or no (single) text encoder in it.
        MissingExtraError: a file that ``torch.save`` wrote, without PyTorch installed.
    """
    checkpoint = open_checkpoint(locate(path_or_id))
    entries, layout = list(checkpoint.entries()), checkpoint.layout
    parts = dict.fromkeys(PARTS, 0)
    for name, entry in entries:
        if is_parameter(name):
            parts[part_of(name)] += entry.size * (2 if entry.dtype == PACKED else 1)
    is_own = checkpoint.format.kind is None
    return CheckpointSummary(
        path=checkpoint.where,
        file_bytes=checkpoint.source.size,
        format=checkpoint.format.name,
        title=checkpoint.format.title,
        model=layout.kind,
        variant=layout.name,
        layout=layout.describe_blocks(),
        rows=layout.context_length,
        vocabulary=layout.vocabulary,
        is_pruned=layout.kept is not None,
        rank=layout.rank,
        heads=checkpoint.heads,
        output=layout.output if checkpoint.format.has_projector else None,
        padding=layout.padding if is_own else None,
        quantized=layout.describe_quantized(),
        dtypes=dict(Counter(entry.dtype for name, entry in entries if is_parameter(name)).most_common()),
        text_bytes=sum(entry.bytes for _, entry in entries),
        tensors=len(entries),
        other_tensors=len(checkpoint.source.entries) - len(entries),
        parts=parts,
        faults=checkpoint.faults(),
    )


@dataclass(frozen=True)
class EncoderSize:
    """What a text encoder takes.

    Attributes:
        name: what the user calls it.
        parameters: all of them, token table and projector included; a projection that SAM3 never reads counts where the
            file has it, as the paper counts.
        bytes: of its tensors.
    """

    name: str
    parameters: int
    bytes: int


def measure_encoder(spec: str, encoder: TextEncoder) -> EncoderSize:
    """The size of an encoder in the file that it came from, in that file's number types.

    A model of another kind than SAM3's, which is not read file by file, is measured as it was loaded.

    Args:
        spec: what `load_encoder` or `load_host` was given.
        encoder: what came of it.

    Raises:
        EncoderError: nothing there, or no (single) text encoder in it.
    """
    if not is_other_model(spec):
        summary = summarize_checkpoint(spec)
        return EncoderSize(spec, summary.parameters, summary.text_bytes)
    from litetext.features.fingerprint import modules_of

    modules = modules_of(encoder).values()
    return EncoderSize(
        name=spec,
        parameters=sum(parameter.numel() for module in modules for parameter in module.parameters()),
        bytes=sum(tensor.nbytes for module in modules for tensor in module.state_dict().values()),
    )


def _bytes(count: int) -> str:
    """A size on disk for people."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
