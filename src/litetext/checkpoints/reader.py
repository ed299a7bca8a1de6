"""A checkpoint: a file or folder in which a text encoder was recognized. Names and shapes first, checked; then tensors.

Everything is strict: a tensor of the text side that is missing, unknown, of another shape or dtype is an error
that names it, and nothing is ever filled in.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.formats import Format, Rule, find_format
from litetext.checkpoints.schema import UNUSED, Shape, exact_types, tensor_shapes
from litetext.checkpoints.tensors import AGAIN, CONFIG, TensorEntry, TensorSource, listed, open_tensors
from litetext.encoders.config import FORMAT_VERSION, MIN_CONTEXT, OUTPUT_WIDTH, BlockKind, EncoderConfig, find_preset
from litetext.errors import EncoderError, LiteTextError, shortened
from litetext.records import read_json

if TYPE_CHECKING:
    import torch

FLOATING = ("float64", "float32", "float16", "bfloat16")
COUNTER = "num_batches_tracked"  # the only tensor that is a whole number


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A file in which a text encoder was recognized, not yet read."""

    source: TensorSource
    format: Format
    root: str  # what stands before the names of the format in this file
    layout: EncoderConfig  # by the shapes of a few tensors, or from a file of our own; its heads mean nothing:
    heads: int | None  # None where neither the file nor `PRESETS` says

    @property
    def where(self) -> str:
        """The file or folder, for messages."""
        return str(self.source.path)

    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors that the encoder must have, by our names."""
        return tensor_shapes(self.layout, projector=self.format.has_projector)

    def rules(self) -> dict[str, Rule]:
        """Rules by our names, of all tensors that the encoder must have, theirs with the root of this file."""
        known = {rule.ours: rule for rule in self.format.rules(self.layout.block_kinds)}
        return {name: known[name].below(self.root) for name in self.shapes() if name in known}

    def entries(self) -> Iterator[tuple[str, TensorEntry]]:
        """Those tensors of the file that are the encoder's, each with our name; there may be three of one name."""
        for ours, rule in self.rules().items():
            yield from ((ours, self.source.entries[name]) for name in rule.theirs if name in self.source.entries)

    def faults(self) -> str:
        """What is wrong with the names, shapes and dtypes of the tensors, in one line; "" if nothing is."""
        rules, entries = self.rules(), self.source.entries
        exact = exact_types(self.layout)
        wanted = {
            theirs: (shape, exact.get(ours))
            for ours, ours_shape in self.shapes().items()
            for theirs, shape in zip(rules[ours].theirs, rules[ours].change.shapes(ours_shape), strict=True)
        }
        scopes = tuple(self.root + scope for scope in self.format.scopes)
        ignored = {self.root + name for name in self.format.ignored}
        present = {name for name in entries if name.startswith(scopes)} - ignored
        kinds = {
            "missing": [name for name in wanted if name not in entries],
            "unexpected": sorted(present - wanted.keys()),
            "wrong": [
                text for name in wanted if name in entries for text in _wrong(name, entries[name], *wanted[name])
            ],
        }
        return "; ".join(f"{kind} ({len(names)}): {listed(names)}" for kind, names in kinds.items() if names)

    def config(self) -> EncoderConfig:
        """The configuration of the encoder's module, which has no unused projection.

        Raises:
            EncoderError: no projector is in the file, or the number of heads is not known.
        """
        if not self.format.has_projector:
            what = "has no projector to SAM3's decoder: it can only start the training of a student"
            hint = "load a trained student, or train one from it"
            raise EncoderError(f"{self.format.title} {what}", where=self.where, hint=hint)
        if self.heads is None:
            what = f"unknown number of heads: the sizes ({self.layout.describe_blocks()}) are of no preset"
            hint = "convert it to litetext, and give the number of heads (--heads)"
            raise EncoderError(what, where=self.where, hint=hint)
        return replace(self.layout, heads=self.heads, projection=0)

    def read(self) -> "Iterator[tuple[str, torch.Tensor]]":
        """Our name and value of one tensor after another, on the CPU in the file's dtype, in their own memory."""
        if faults := self.faults():
            what = f"not a whole {self.layout.kind} in the format '{self.format.name}' ({faults})"
            raise EncoderError(what, where=self.where, hint=AGAIN)
        for ours, rule in self.rules().items():
            parts = [tensor for _, tensor in self.source.read(rule.theirs)]
            yield ours, rule.change.load(parts).contiguous()


def open_checkpoint(path: Path, *, heads: int | None = None) -> Checkpoint:
    """Recognize the one text encoder in what `open_tensors` takes, by the names of its tensors.

    Attention heads are given for sizes that are of no preset in a format that does not store them.
    """
    source = open_tensors(path)
    row, root = find_format(source.entries, str(path))
    unused = source.entries.get(root + next(rule.theirs[0] for rule in row.stem if rule.ours == UNUSED))
    try:
        if row.kind is None:
            layout = _own_config(source)
            known: int | None = layout.heads
        else:
            layout = _layout(source, row, root)
            preset = find_preset(layout)
            layout = replace(layout, name=preset.name if preset else "custom")
            known = heads or _heads_beside(source.path, row) or (preset.heads if preset else None)
        layout = replace(layout, projection=unused.size // layout.width if unused else 0)
    except EncoderError:
        raise
    except LiteTextError as error:
        raise EncoderError(f"its configuration makes no sense ({error})", where=str(path), hint=AGAIN) from error
    return Checkpoint(source, row, root, layout, known)


def _own_config(source: TensorSource) -> EncoderConfig:
    """The configuration in a file of our own format, which says what must be there."""
    metadata = source.metadata
    if metadata.get("litetext") != FORMAT_VERSION or not {"model", "config"} <= metadata.keys():
        what = "tensors of LiteText without its metadata, or of another version"
        raise EncoderError(what, where=str(source.path), hint="save it with LiteText")
    config = EncoderConfig.from_json(metadata["config"])
    if config.kind != metadata["model"]:
        what = f"a {config.kind} that calls itself a {metadata['model']}"
        raise EncoderError(what, where=str(source.path), hint=AGAIN)
    return config


def _layout(source: TensorSource, row: Format, root: str) -> EncoderConfig:
    """The encoder by the shapes of a few tensors; whether all others agree is what `Checkpoint.faults` says."""
    stem = {rule.ours: source.entries.get(root + rule.theirs[0]) for rule in row.stem}
    table, positions, projector = stem["token_table.weight"], stem["positions"], stem.get("projector.weight")
    if table is None or len(table.shape) != 2 or 0 in table.shape:
        shape = list(table.shape) if table else []
        raise EncoderError(f"the token table has the shape {shape}, not [V, C]", where=str(source.path), hint=AGAIN)
    vocabulary, width = table.shape
    rows = positions.shape[-2] if positions and len(positions.shape) > 1 else 0
    blocks = _block_kinds(source.entries, row, root)
    mixers = blocks.count("mixer")
    mixers += mixers % 2  # the other one is missing
    return EncoderConfig(
        name="custom",
        width=width,
        heads=1,
        encoder_blocks=max(0, len(blocks) - mixers),
        mixer_blocks=mixers,
        context_length=max(rows, MIN_CONTEXT),
        padding="masked" if row.kind == "teacher" else "attended",
        vocabulary=vocabulary,
        output=projector.shape[0] if projector and projector.shape else OUTPUT_WIDTH,
        kind=row.kind or "student",
    )


def _block_kinds(entries: Mapping[str, TensorEntry], row: Format, root: str) -> list[BlockKind]:
    """Kind of each block: the one that most of its names belong to."""
    votes: defaultdict[int, Counter[BlockKind]] = defaultdict(Counter)
    for kind, rules in row.blocks.items():
        for name in (root + name for rule in rules for name in rule.theirs):
            before, _, after = name.partition("{n}")
            for entry in entries:
                number = entry[len(before) : len(entry) - len(after)]
                # More blocks than tensors cannot be: such a number is left over, and unexpected.
                if entry == before + number + after and number.isdecimal() and int(number) < len(entries):
                    votes[int(number)][kind] += 1
    numbers = range(max(votes, default=-1) + 1)
    return [votes[number].most_common(1)[0][0] if number in votes else "encoder" for number in numbers]


def _heads_beside(path: Path, row: Format) -> int | None:
    """Attention heads as the `config.json` of `transformers` beside the weights says."""
    file = (path if path.is_dir() else path.parent) / CONFIG
    if row.family != "huggingface" or not file.is_file():
        return None
    try:
        config: Any = read_json(file)
        config = config.get("detector_config") or config
        heads = config.get("text_config", {}).get("num_attention_heads")
    except (ValueError, AttributeError) as error:
        raise EncoderError("not a configuration of transformers", where=str(file), hint=AGAIN) from error
    return heads if type(heads) is int else None


def _wrong(name: str, entry: TensorEntry, shape: Shape, dtype: str | None) -> Iterator[str]:
    """What is wrong with one tensor, in words; a dtype of None is any of floating point."""
    name = shortened(name, 100)
    if entry.shape != shape:
        yield f"{name} is {list(entry.shape)}, not {list(shape)}"
    elif dtype is not None and entry.dtype != dtype:
        yield f"{name} is {entry.dtype}, not {dtype}"
    elif dtype is None and entry.dtype not in FLOATING and not name.endswith(COUNTER):
        yield f"{name} is {entry.dtype}, not floating point"
