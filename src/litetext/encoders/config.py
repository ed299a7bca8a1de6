"""What a text encoder is but for its weights: one configuration, and the table of presets."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self

from litetext.errors import OptionError
from litetext.records import check_choices, parse_json, record
from litetext.tokenizer.pruned import kept_tokens
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE

Kind = Literal["student", "teacher"]
BlockKind = Literal["encoder", "mixer", "folded"]
Padding = Literal["attended", "masked"]
Weights = Literal["float", "int8"]
Activations = Literal["float", "int8"]
Table = Literal["float", "int8", "int4"]

OUTPUT_WIDTH = 256  # what SAM3's decoder reads
KERNEL = 11  # taps of a RepMixer block's depthwise convolutions
EXPANSION = 4  # feed-forward width over block width
MIN_CONTEXT = 2  # the start and the end token
MAX_BLOCKS = 1000  # a list of them is made before any tensor is looked at
FORMAT_VERSION = "1"  # of our own files
INT4_GROUP = 32  # columns of an int4 token table that share a scale


@dataclass(frozen=True)
class EncoderConfig:
    """All that makes a text encoder but its weights. It travels as JSON in the metadata of a checkpoint.

    Padding is "attended" if it is read like tokens, up to the context length, as the released students were trained;
    "masked" if only valid tokens are read. The teacher's attention looks back only.
    """

    name: str  # the preset it comes from, or another name for people
    width: int  # channels C of a token
    heads: int  # attention heads, a divisor of the width
    encoder_blocks: int  # pre-norm transformer blocks
    mixer_blocks: int  # RepMixer blocks, an even number: half before and half after the others
    context_length: int  # rows of the position table; the most tokens that are read
    padding: Padding
    vocabulary: int = VOCABULARY_SIZE  # rows V of the token table
    output: int = OUTPUT_WIDTH  # width D of the features
    folded: bool = False  # whether the RepMixer blocks are folded for inference
    rank: int | None = None  # rank r of a factorized token table, at most the width; None for a whole one
    kept: str | None = None  # CLIP's tokens in a pruned token table, as `KeptTokens` writes them; None for all
    weights: Weights = "float"  # of the linear layers; int8 only in a folded student
    activations: Activations = "float"  # what these layers read; int8 only with int8 weights
    table: Table = "float"  # the token table
    kind: Kind = "student"
    projection: int = 0  # columns of CLIP's projection, which a file may hold but SAM3 never uses; 0 for none

    def __post_init__(self) -> None:
        """Check each value, and those that depend on each other."""
        check_choices(self)
        check_sizes(width=self.width, heads=self.heads, vocabulary=self.vocabulary, output=self.output)
        check_sizes(0, encoder_blocks=self.encoder_blocks, mixer_blocks=self.mixer_blocks, projection=self.projection)
        check_sizes(MIN_CONTEXT, context_length=self.context_length)
        if self.encoder_blocks + self.mixer_blocks > MAX_BLOCKS:
            raise OptionError(f"{self.encoder_blocks + self.mixer_blocks} blocks", hint=f"give at most {MAX_BLOCKS}")
        if self.mixer_blocks % 2:
            raise OptionError(f"{self.mixer_blocks} RepMixer blocks", hint="give an even number: as many last as first")
        if self.width % self.heads:
            raise OptionError(f"a width of {self.width} for {self.heads} heads", hint="give a multiple of the heads")
        self._check_table()
        if self.kind == "teacher" and (self.rank is not None or self.quantized or self.mixer_blocks):
            raise OptionError("a teacher that is factorized, quantized or has RepMixer blocks")
        if self.weights == "int8" and not self.folded:
            raise OptionError("int8 weights of a student that is not folded", hint="fold it first")
        if self.activations == "int8" and self.weights != "int8":
            raise OptionError("int8 activations with float weights", hint="give int8 weights too")

    def _check_table(self) -> None:
        if self.rank is not None:
            check_sizes(rank=self.rank)
            if self.rank > self.width:
                raise OptionError(f"a token table of rank {self.rank} and width {self.width}", hint="leave rank out")
        if self.table == "int4" and self.table_columns % 2:
            raise OptionError(f"an int4 token table of {self.table_columns} columns", hint="give int8, or an even rank")
        if self.kept is not None and len(kept_tokens(self.kept)) != self.vocabulary:
            count = len(kept_tokens(self.kept))
            raise OptionError(f"{count:,} tokens are kept, in a token table of {self.vocabulary:,} rows")

    @property
    def block_kinds(self) -> tuple[BlockKind, ...]:
        """Kind of each block in their order."""
        ends: list[BlockKind] = ["folded" if self.folded else "mixer"] * (self.mixer_blocks // 2)
        middle: list[BlockKind] = ["encoder"] * self.encoder_blocks
        return (*ends, *middle, *ends)

    @property
    def table_columns(self) -> int:
        """Columns of the token table: the width, or the rank of a factorized one."""
        return self.width if self.rank is None else self.rank

    @property
    def quantized(self) -> bool:
        """Whether anything of it is integers, so that it can be run, but not trained or changed."""
        return (self.weights, self.table) != ("float", "float")

    def describe_quantized(self) -> str:
        """What of it is integers, in words; "" if nothing is."""
        parts = ((self.weights, "weights"), (self.activations, "activations"), (self.table, "token table"))
        return ", ".join(f"{number} {part}" for number, part in parts if number != "float")

    def describe_blocks(self) -> str:
        """Width and blocks in words."""
        mixers = f" and {self.mixer_blocks} RepMixer" if self.mixer_blocks else ""
        return f"width {self.width}, {self.encoder_blocks} encoder{mixers} blocks"

    @classmethod
    def of(
        cls, preset: str, context_length: int | None = None, *, padding: Padding, vocabulary: int = VOCABULARY_SIZE
    ) -> "EncoderConfig":
        """A student of the size of a preset; a context length of None is the preset's own."""
        row = PRESETS.get(preset)
        if row is None or row.kind == "teacher":
            names = ", ".join(name for name, row in PRESETS.items() if row.kind == "student")
            raise OptionError(f"no student is called {preset!r}", hint=f"give one of {names}")
        rows = row.context_length if context_length is None else context_length
        return replace(row, context_length=rows, padding=padding, vocabulary=vocabulary, projection=0)

    def to_json(self) -> str:
        """One JSON object with every field."""
        return json.dumps(asdict(self))

    def metadata(self) -> dict[str, str]:
        """What a safetensors file of our own says of itself beside its tensors."""
        return {"format": "pt", "litetext": FORMAT_VERSION, "model": self.kind, "config": self.to_json()}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote. Fields that have a default may be missing."""
        try:
            return record(cls, parse_json(text))
        except ValueError as error:
            raise OptionError(str(error), where="the encoder's configuration") from error


def check_sizes(least: int = 1, **sizes: int) -> None:
    """Raise an `OptionError` unless each size is an integer of at least ``least``."""
    for name, size in sizes.items():
        if type(size) is not int or size < least:
            raise OptionError(f"{name} is {size!r}", hint=f"give an integer of at least {least}")


def groups_of(columns: int) -> int:
    """Groups of the columns of an int4 token table, each with its own scale: of 32, or one of all."""
    return 1 if columns % INT4_GROUP else columns // INT4_GROUP


PRESETS = {
    row.name: row
    for row in (
        # MobileCLIP-S0, MobileCLIP-S1 and MobileCLIP2-L, as SAM3-LiteText released them; SAM3's own; S0 for tests.
        EncoderConfig("s0", 512, 8, 4, 2, 16, "attended", projection=512),
        EncoderConfig("s1", 512, 8, 12, 0, 16, "attended", projection=512),
        EncoderConfig("l", 768, 12, 12, 0, 16, "attended", projection=768),
        EncoderConfig("teacher", 1024, 16, 24, 0, 32, "masked", kind="teacher", projection=512),
        EncoderConfig("tiny", 32, 4, 2, 2, 16, "attended", projection=32),
        # A half and a quarter of S0's width. Ranks: above the 85 and the 16 to 19 that the paper found as effective
        # rank and intrinsic dimension.
        EncoderConfig("xs", 256, 4, 4, 2, 16, "masked", rank=96),
        EncoderConfig("xxs", 128, 4, 2, 2, 16, "masked", rank=32),
        # For the micro host: at most 12 % and 5 % of the 5.2 M parameters of its text encoder.
        EncoderConfig("micro-s", 64, 4, 2, 2, 16, "masked", output=64, rank=8),
        EncoderConfig("micro-xs", 32, 4, 2, 2, 16, "masked", output=64, rank=4),
    )
}
STUDENTS = tuple(PRESETS[name] for name in ("s0", "s1", "l"))  # those that are released


def find_preset(config: EncoderConfig) -> EncoderConfig | None:
    """The row of `PRESETS` with the width, rank and blocks of an encoder, whatever the rows of its tables."""

    def size(row: EncoderConfig) -> tuple[object, ...]:
        return row.kind, row.width, row.rank, row.encoder_blocks, row.mixer_blocks

    return next((row for row in PRESETS.values() if size(row) == size(config)), None)
