"""A checkpoint: a file or folder in which a text encoder was recognized. Names and shapes first, checked; then tensors.

Everything is strict: a tensor of the text side that is missing, unknown, of another shape or number type is an error
that names it, and nothing is ever filled in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.formats import Format, Model, find_format
from litetext.checkpoints.rules import Rule
from litetext.checkpoints.shapes import UNUSED, Kind, Shape, Sizes, exact_types, tensor_shapes
from litetext.checkpoints.tensors import AGAIN, CONFIG, TensorEntry, TensorSource, listed, open_tensors
from litetext.encoders.config import OUTPUT_WIDTH, Preset, StudentConfig
from litetext.errors import EncoderError, LiteTextError, shortened
from litetext.records import read_json

if TYPE_CHECKING:
    import torch

VERSION = "1"  # of our own format
FLOATING = ("float64", "float32", "float16", "bfloat16")
COUNTER = "num_batches_tracked"  # the only tensor that is a whole number


@dataclass(frozen=True)
class Faults:
    """What is wrong with the tensors of a text encoder, each by its name in the file.

    Attributes:
        missing: tensors that should be there.
        unexpected: tensors of the text side that nobody knows.
        wrong: tensors of another shape or number type, with both.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong: tuple[str, ...]

    def describe(self) -> str:
        """All faults in one line; "" if there are none."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("wrong", self.wrong))
        return "; ".join(f"{kind} ({len(names)}): {listed(names)}" for kind, names in kinds if names)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A file in which a text encoder was recognized, not yet read.

    Attributes:
        source: the file's tensors.
        format: how they are named.
        root: what stands before the names of the format in this file.
        model: "student" or "teacher".
        sizes: of the encoder.
        heads: attention heads; None where neither the file nor `PRESETS` says.
        own: the configuration in a file of our own format, else None.
    """

    source: TensorSource
    format: Format
    root: str
    model: Model
    sizes: Sizes
    heads: int | None
    own: StudentConfig | None

    @property
    def where(self) -> str:
        """The file or folder, for messages."""
        return str(self.source.path)

    @property
    def preset(self) -> Preset | None:
        """The row of `PRESETS` that it is in its blocks; the tables may have other numbers of rows."""
        return self.sizes.preset(causal=self.model == "teacher")

    def rules(self) -> dict[str, Rule]:
        """Rules by our names, of all tensors that the encoder must have, theirs with the root of this file."""
        known = {rule.ours: rule for rule in self.format.rules(self.sizes.kinds)}
        shapes = tensor_shapes(self.sizes)
        return {name: known[name].below(self.root) for name in shapes if name in known}

    def entries(self) -> Iterator[tuple[str, TensorEntry]]:
        """Those tensors of the file that are the encoder's, each with our name; there may be three of one name."""
        for ours, rule in self.rules().items():
            yield from ((ours, self.source.entries[name]) for name in rule.theirs if name in self.source.entries)

    def faults(self) -> Faults:
        """What is wrong with the names, shapes and number types."""
        rules, entries = self.rules(), self.source.entries
        exact = exact_types(self.sizes)
        wanted = {
            theirs: (shape, exact.get(ours))
            for ours, ours_shape in tensor_shapes(self.sizes).items()
            for theirs, shape in zip(rules[ours].theirs, rules[ours].change.shapes(ours_shape), strict=True)
        }
        scopes = tuple(self.root + scope for scope in self.format.scopes)
        ignored = {self.root + name for name in self.format.ignored}
        present = {name for name in entries if name.startswith(scopes)} - ignored
        return Faults(
            missing=tuple(name for name in wanted if name not in entries),
            unexpected=tuple(sorted(present - wanted.keys())),
            wrong=tuple(
                text for name in wanted if name in entries for text in _wrong(name, entries[name], *wanted[name])
            ),
        )

    def check(self) -> None:
        """Raise an `EncoderError` that lists the faults, if there are any."""
        text = self.faults().describe()
        if text:
            raise EncoderError(
                f"not a whole {self.model} in the format '{self.format.name}' ({text})", where=self.where, hint=AGAIN
            )

    def config(self) -> StudentConfig:
        """The configuration; of the teacher, whose tensors are alike, that of a student with the same sizes.

        Raises:
            EncoderError: no projector is in the file, the number of heads is not known, or the sizes make no sense.
        """
        if self.own is not None:
            return self.own
        if self.sizes.output is None:
            raise EncoderError(
                f"{self.format.title} has no projector to SAM3's decoder: it can only start the training of a student",
                where=self.where,
                hint="load a trained student, or train one from it",
            )
        if self.heads is None:
            raise EncoderError(
                f"the sizes ({describe_sizes(self.sizes)}) are of no preset, and the file does not say how many heads",
                where=self.where,
                hint="convert it to litetext, and give the number of heads (--heads)",
            )
        if not self.sizes.symmetric:
            raise EncoderError(f"blocks in an unknown order: {', '.join(self.sizes.kinds)}", where=self.where)
        return StudentConfig(
            name=self.preset.name if self.preset else "custom",
            width=self.sizes.width,
            heads=self.heads,
            encoder_blocks=self.sizes.kinds.count("encoder"),
            mixer_blocks=self.sizes.mixer_blocks,
            context_length=self.sizes.rows,
            padding="attended" if self.model == "student" else "masked",
            vocabulary=self.sizes.vocabulary,
            output=self.sizes.output,
            folded="folded" in self.sizes.kinds,
        )

    def read(self) -> "Iterator[tuple[str, torch.Tensor]]":
        """Our name and value of one tensor after another, on the CPU in the file's number type, in their own memory.

        Raises:
            EncoderError: the names, shapes or types are not as they must be.
        """
        self.check()
        rules = self.rules()
        homes = {theirs: ours for ours, rule in rules.items() for theirs in rule.theirs}
        pending: dict[str, dict[str, torch.Tensor]] = {}
        for theirs, tensor in self.source.read(homes):
            ours = homes[theirs]
            parts = pending.setdefault(ours, {})
            parts[theirs] = tensor
            if len(parts) == len(rules[ours].theirs):
                del pending[ours]
                yield ours, rules[ours].change.load([parts[name] for name in rules[ours].theirs]).contiguous()


def open_checkpoint(path: Path, *, heads: int | None = None) -> Checkpoint:
    """Recognize a text encoder by the names of its tensors.

    Args:
        path: a file, or a folder with `model.safetensors`, its shards, or `student.safetensors`.
        heads: attention heads, for sizes that are of no preset in a format that does not store them.

    Raises:
        EncoderError: not a file of tensors, or no (single) text encoder in it.
    """
    source = open_tensors(path)
    row, root = find_format(source.entries, str(path))
    if row.model is None:
        return _open_own(source, row, root)
    sizes = _sizes(source, row, root)
    preset = sizes.preset(causal=row.model == "teacher")
    known = heads or _heads_beside(source.path, row) or (preset.heads if preset else None)
    return Checkpoint(source, row, root, row.model, sizes, known, None)


def own_metadata(config: StudentConfig, model: Model) -> dict[str, str]:
    """What a file of our own format says of itself beside its tensors."""
    return {"format": "pt", "litetext": VERSION, "model": model, "config": config.to_json()}


def describe_sizes(sizes: Sizes) -> str:
    """Width and blocks for people."""
    mixers = f" and {sizes.mixer_blocks} RepMixer" if sizes.mixer_blocks else ""
    return f"width {sizes.width}, {sizes.kinds.count('encoder')} encoder{mixers} blocks"


def block_kinds(config: StudentConfig) -> tuple[Kind, ...]:
    """Kind of each block: RepMixer blocks first and last."""
    mixer: Kind = "folded" if config.folded else "mixer"
    ends: list[Kind] = [mixer] * (config.mixer_blocks // 2)
    middle: list[Kind] = ["encoder"] * config.encoder_blocks
    return (*ends, *middle, *ends)


def _open_own(source: TensorSource, row: Format, root: str) -> Checkpoint:
    """A file of our own format: the configuration in it says what must be there."""
    said = source.metadata
    where = str(source.path)
    if said.get("litetext") != VERSION or said.get("model") not in {"student", "teacher"} or "config" not in said:
        raise EncoderError(
            "tensors of LiteText without its metadata, or of another version", where=where, hint="save it with LiteText"
        )
    try:
        config = StudentConfig.from_json(said["config"])
    except LiteTextError as error:
        raise EncoderError(f"its configuration makes no sense ({error})", where=where, hint=AGAIN) from error
    model: Model = "teacher" if said["model"] == "teacher" else "student"
    if model == "teacher" and config.rank is not None:
        raise EncoderError("a teacher with a factorized token table", where=where, hint=AGAIN)
    if model == "teacher" and config.quantized:
        raise EncoderError("a quantized teacher", where=where, hint=AGAIN)
    entry = source.entries.get(root + UNUSED)
    sizes = Sizes(
        width=config.width,
        vocabulary=config.vocabulary,
        rows=config.context_length,
        kinds=block_kinds(config),
        output=config.output,
        projection=None if entry is None else entry.shape[-1] if entry.shape else 0,
        rank=config.rank,
        weights=config.weights,
        activations=config.activations,
        table=config.table,
    )
    return Checkpoint(source, row, root, model, sizes, config.heads, config)


def _sizes(source: TensorSource, row: Format, root: str) -> Sizes:
    """Sizes by the shapes of a few tensors; whether all others agree is what `Checkpoint.faults` says."""
    stem = {rule.ours: source.entries.get(root + rule.theirs[0]) for rule in row.stem}
    table, positions = stem["token_table.weight"], stem["positions"]
    projector, unused = stem.get("projector.weight"), stem.get(UNUSED)
    if table is None or len(table.shape) != 2 or 0 in table.shape:
        shape = list(table.shape) if table else []
        raise EncoderError(f"the token table has the shape {shape}, not [V, C]", where=str(source.path), hint=AGAIN)
    vocabulary, width = table.shape
    output = projector.shape[0] if projector and projector.shape else OUTPUT_WIDTH
    return Sizes(
        width=width,
        vocabulary=vocabulary,
        rows=positions.shape[-2] if positions and len(positions.shape) > 1 else 1,
        kinds=_kinds(source.entries, row, root),
        output=output if row.whole else None,
        projection=unused.size // width if unused else None,
    )


def _kinds(entries: Mapping[str, TensorEntry], row: Format, root: str) -> tuple[Kind, ...]:
    """Kind of each block: the one that most of its names belong to."""
    votes: dict[int, dict[Kind, int]] = {}
    for kind, rules in row.blocks.items():
        for name in (root + name for rule in rules for name in rule.theirs):
            before, _, after = name.partition("{n}")
            for entry in entries:
                number = entry[len(before) : len(entry) - len(after)]
                # More blocks than tensors cannot be: such a number is left over, and unexpected.
                if entry == before + number + after and number.isdecimal() and int(number) < len(entries):
                    ballot = votes.setdefault(int(number), {})
                    ballot[kind] = ballot.get(kind, 0) + 1
    first: Kind = "encoder"
    ballots = [votes.get(number, {first: 1}) for number in range(max(votes, default=-1) + 1)]
    return tuple(max(ballot, key=lambda kind: ballot[kind]) for ballot in ballots)


def _heads_beside(path: Path, row: Format) -> int | None:
    """Attention heads as the `config.json` of `transformers` beside the weights says."""
    file = (path if path.is_dir() else path.parent) / CONFIG
    if row.family != "huggingface" or not file.is_file():
        return None
    try:
        said: Any = read_json(file)
        said = said.get("detector_config") or said
        heads = said.get("text_config", {}).get("num_attention_heads")
    except (ValueError, AttributeError) as error:
        raise EncoderError("not a configuration of transformers", where=str(file), hint=AGAIN) from error
    return heads if type(heads) is int else None


def _wrong(name: str, entry: TensorEntry, shape: Shape, number: str | None) -> Iterator[str]:
    """What is wrong with one tensor, in words; a number type of None is any of floating point."""
    name = shortened(name, 100)
    if entry.shape != shape:
        yield f"{name} is {list(entry.shape)}, not {list(shape)}"
    elif number is not None and entry.dtype != number:
        yield f"{name} is {entry.dtype}, not {number}"
    elif number is None and entry.dtype not in FLOATING and not name.endswith(COUNTER):
        yield f"{name} is {entry.dtype}, not floating point"
