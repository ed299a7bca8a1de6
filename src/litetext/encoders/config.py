"""Text encoders as rows of one table, with their exact parameter counts: SAM3's, SAM3-LiteText's, and smaller ones."""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from types import NoneType
from typing import Literal, Self, get_args

from litetext.errors import OptionError
from litetext.records import parse_json
from litetext.tokenizer.pruned import kept_tokens
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE

Padding = Literal["attended", "masked"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)
Weights = Literal["float", "int8"]
Activations = Literal["float", "int8"]
Table = Literal["float", "int8", "int4"]

OUTPUT_WIDTH = 256  # what SAM3's decoder reads
KERNEL = 11  # taps of a RepMixer block's depthwise convolutions
SHORTEST_CONTEXT = 2  # the start and the end token
MOST_BLOCKS = 1000  # a list of them is made before any tensor is looked at
_WHERE = "the student's configuration"
INT4_GROUP = 32  # columns of an int4 token table that share a scale


@dataclass(frozen=True)
class Preset:
    """One text encoder.

    Attributes:
        name: short name for the command line.
        title: name for people.
        width: channels C of a token.
        heads: attention heads.
        encoder_blocks: pre-norm transformer blocks.
        mixer_blocks: RepMixer blocks (depthwise convolutions over the tokens), half before and half after the others.
        context_length: context length L that it is released for.
        projection: width of the projection that its checkpoint holds but SAM3 never uses.
        causal: whether attention looks back only.
        output: width D of the features, that of the decoder which it is for.
        rank: rank r of a factorized token table; None for a whole one.
    """

    name: str
    title: str
    width: int
    heads: int
    encoder_blocks: int
    mixer_blocks: int
    context_length: int
    projection: int
    causal: bool
    output: int = OUTPUT_WIDTH
    rank: int | None = None

    def parameters(self, context_length: int | None = None, *, vocabulary: int = VOCABULARY_SIZE) -> int:
        """Parameters as the paper counts them: the unused projection and batch-norm scales in, running statistics out.

        Args:
            context_length: rows of the position table; default the preset's own.
            vocabulary: rows of the token table.
        """
        return sum(self.parts(context_length, vocabulary=vocabulary).values())

    def parts(self, context_length: int | None = None, *, vocabulary: int = VOCABULARY_SIZE) -> dict[str, int]:
        """Parameters by part: token table, positions, blocks, final norm, projector, unused projection."""
        width = self.width
        feed_forward = 2 * width * 4 * width + 4 * width + width
        encoder = 2 * 2 * width + 4 * (width * width + width) + feed_forward
        # Token mixer: two skip norms, convolution and its norm, layer scale. Then: convolution, norm, layer scale.
        mixer = (
            (2 * 2 * width + KERNEL * width + 2 * width + width) + (KERNEL * width + 2 * width + width) + feed_forward
        )
        return {
            "token_table": vocabulary * width if self.rank is None else (vocabulary + width) * self.rank,
            "positions": (context_length or self.context_length) * width,
            "blocks": self.encoder_blocks * encoder + self.mixer_blocks * mixer,
            "final_norm": 2 * width,
            "projector": width * self.output + self.output,
            "unused_projection": width * self.projection,
        }


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("s0", "MobileCLIP-S0", 512, 8, 4, 2, 16, 512, causal=False),
        Preset("s1", "MobileCLIP-S1", 512, 8, 12, 0, 16, 512, causal=False),
        Preset("l", "MobileCLIP2-L", 768, 12, 12, 0, 16, 768, causal=False),
        Preset("teacher", "SAM3 text encoder", 1024, 16, 24, 0, 32, 512, causal=True),
        Preset("tiny", "S0 in small, for tests", 32, 4, 2, 2, 16, 32, causal=False),
        # Ranks: above the 85 and the 16 to 19 that the paper found as effective rank and intrinsic dimension.
        Preset("xs", "half of S0's width", 256, 4, 4, 2, 16, 0, causal=False, rank=96),
        Preset("xxs", "a quarter of S0's width", 128, 4, 2, 2, 16, 0, causal=False, rank=32),
        # At most 12 % and 5 % of the 5.2 M parameters of the micro host's text encoder.
        Preset("micro-s", "for the micro host", 64, 4, 2, 2, 16, 0, causal=False, output=64, rank=8),
        Preset("micro-xs", "for the micro host, smaller", 32, 4, 2, 2, 16, 0, causal=False, output=64, rank=4),
    )
}
STUDENTS = tuple(PRESETS[name] for name in ("s0", "s1", "l"))  # those that are released


@dataclass(frozen=True)
class StudentConfig:
    """All that makes a student but its weights. It travels as JSON in the metadata of a checkpoint.

    Attributes:
        name: the preset it comes from, or another name for people.
        width: channels C of a token.
        heads: attention heads, a divisor of the width.
        encoder_blocks: pre-norm transformer blocks.
        mixer_blocks: RepMixer blocks, an even number: half before and half after the others.
        context_length: rows of the position table; the most tokens that are read.
        padding: "attended" if padding is read like tokens, up to ``context``, as the released students were trained;
            "masked" if attention and convolutions see valid tokens only.
        vocabulary: rows V of the token table.
        output: width D of the features.
        folded: whether the RepMixer blocks are folded for inference.
        rank: rank r of a factorized token table, at most the width; None for a whole one.
        kept: which of CLIP's tokens the rows of a pruned token table are, as `KeptTokens` writes it; None for all.
        weights: "int8" if the linear layers' are, only of a folded student; else "float".
        activations: "int8" if what these layers read is quantized, only with such weights; else "float".
        table: "int8" or "int4" if the token table is; else "float".

    Raises:
        OptionError: a value makes no sense.
    """

    name: str
    width: int
    heads: int
    encoder_blocks: int
    mixer_blocks: int
    context_length: int
    padding: Padding
    vocabulary: int = VOCABULARY_SIZE
    output: int = OUTPUT_WIDTH
    folded: bool = False
    rank: int | None = None
    kept: str | None = None
    weights: Weights = "float"
    activations: Activations = "float"
    table: Table = "float"

    def __post_init__(self) -> None:
        """Check each value, and those that depend on each other."""
        if type(self.name) is not str or type(self.folded) is not bool:
            raise OptionError(f"name {self.name!r} and folded {self.folded!r} are not a text and a truth value")
        check_sizes(width=self.width, heads=self.heads, vocabulary=self.vocabulary, output=self.output)
        check_sizes(0, encoder_blocks=self.encoder_blocks, mixer_blocks=self.mixer_blocks)
        if self.encoder_blocks + self.mixer_blocks > MOST_BLOCKS:
            raise OptionError(f"{self.encoder_blocks + self.mixer_blocks} blocks", hint=f"give at most {MOST_BLOCKS}")
        check_sizes(SHORTEST_CONTEXT, context_length=self.context_length)
        check_heads(self.width, self.heads)
        if self.rank is not None:
            check_sizes(rank=self.rank)
            if self.rank > self.width:
                raise OptionError(f"a token table of rank {self.rank} and width {self.width}", hint="leave rank out")
        if type(self.kept) not in (str, NoneType):
            raise OptionError(f"kept is {self.kept!r}", hint="give a text")
        if self.kept is not None and len(kept_tokens(self.kept)) != self.vocabulary:
            raise OptionError(
                f"{len(kept_tokens(self.kept)):,} tokens are kept, in a token table of {self.vocabulary:,} rows"
            )
        if self.mixer_blocks % 2:
            raise OptionError(f"{self.mixer_blocks} RepMixer blocks", hint="give an even number: as many last as first")
        if self.padding not in PADDINGS:
            raise OptionError(f"no padding is called {self.padding!r}", hint=f"give {' or '.join(PADDINGS)}")
        self._check_quantized()

    @property
    def quantized(self) -> bool:
        """Whether anything of it is integers, so that it can be run, but not trained or changed."""
        return (self.weights, self.table) != ("float", "float")

    def describe_quantized(self) -> str:
        """What of it is integers, in words; "" if nothing is."""
        parts = ((self.weights, "weights"), (self.activations, "activations"), (self.table, "token table"))
        return ", ".join(f"{kind} {part}" for kind, part in parts if kind != "float")

    def _check_quantized(self) -> None:
        for part, words in (("weights", Weights), ("activations", Activations), ("table", Table)):
            known, said = get_args(words), getattr(self, part)
            if said not in known:
                raise OptionError(f"{part} {said!r}", hint=f"give {', '.join(known[:-1])} or {known[-1]}")
        if self.weights == "int8" and not self.folded:
            raise OptionError("int8 weights of a student that is not folded", hint="fold it first")
        if self.activations == "int8" and self.weights != "int8":
            raise OptionError("int8 activations with float weights", hint="give int8 weights too")
        columns = self.rank or self.width
        if self.table == "int4" and columns % 2:
            raise OptionError(f"an int4 token table of {columns} columns", hint="give int8, or an even rank")

    @classmethod
    def of(
        cls, preset: str, context_length: int | None = None, *, padding: Padding, vocabulary: int = VOCABULARY_SIZE
    ) -> Self:
        """A student, not folded, of the size of a preset.

        Args:
            preset: a name in `PRESETS`, not the teacher's.
            context_length: rows of the position table; None for the preset's own.
            padding: "attended" or "masked".
            vocabulary: rows of the token table.

        Raises:
            OptionError: no student is called so, or a value makes no sense.
        """
        row = PRESETS.get(preset)
        if row is None or row.causal:
            names = ", ".join(name for name, row in PRESETS.items() if not row.causal)
            raise OptionError(f"no student is called {preset!r}", hint=f"give one of {names}")
        rows = row.context_length if context_length is None else context_length
        sizes = (row.width, row.heads, row.encoder_blocks, row.mixer_blocks, rows)
        return cls(row.name, *sizes, padding, vocabulary=vocabulary, output=row.output, rank=row.rank)

    def to_json(self) -> str:
        """One JSON object with every field."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote. Fields that have a default may be missing.

        Raises:
            OptionError: not a JSON object, an unknown or missing field, or a value that makes no sense.
        """
        try:
            values = parse_json(text)
        except (TypeError, ValueError) as error:
            raise OptionError("not JSON", where=_WHERE) from error
        if not isinstance(values, dict):
            raise OptionError("not a JSON object", where=_WHERE)
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        for fault, names in (("unknown", values.keys() - known), ("missing", needed - values.keys())):
            if names:
                raise OptionError(f"{fault} fields: {', '.join(sorted(names))}", where=_WHERE)
        return cls(**values)


def groups_of(columns: int) -> int:
    """Groups of the columns of an int4 token table, each with its own scale: of 32, or one of all."""
    return 1 if columns % INT4_GROUP else columns // INT4_GROUP


def check_sizes(least: int = 1, **sizes: int) -> None:
    """Raise an `OptionError` unless each size is an integer of at least ``least``."""
    for name, size in sizes.items():
        if type(size) is not int or size < least:
            raise OptionError(f"{name} is {size!r}", hint=f"give an integer of at least {least}")


def check_heads(width: int, heads: int) -> None:
    """Raise an `OptionError` unless the heads share the width evenly."""
    if width % heads:
        raise OptionError(f"a width of {width} for {heads} heads", hint="give a multiple of the heads")
