"""Quantization after training: int8 weights and activations, int8 and int4 token tables, halves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.shapes import LINEAR_LAYERS, TABLE
from litetext.encoders.config import Activations, Table, Weights
from litetext.errors import OptionError
from litetext.export.compress_io import CHECKED, Reduction, StudentFiles, draw_texts, write_smaller

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from litetext.encoders.student import TextStudent

CALIBRATED = 1000
HALVES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
CHOICES = {
    "weights": ("int8", *HALVES),
    "activations": ("auto", "int8", "float"),
    "table": ("auto", "int8", "int4", *HALVES, "same"),
}
StageProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class QuantizeOptions:
    """What becomes of a student's numbers.

    Attributes:
        weights: "int8" for those of the linear layers, in which case other tensors keep their type; or "fp16", "bf16",
            "fp32" for all that is not the token table.
        activations: "int8" for what the linear layers read, only with int8 weights; "float"; "auto" is int8 with int8
            weights, else float.
        table: of the token table: "int8", "int4", "fp16", "bf16", "fp32", "same" as in the file; "auto" is int8 with
            int8 weights, else as the weights.
        calibrate: the most phrases that ranges of activations are chosen on.
        check: the most phrases that the two students are compared on.

    Raises:
        OptionError: an unknown word, or a value that makes no sense.
    """

    weights: str = "int8"
    activations: str = "auto"
    table: str = "auto"
    calibrate: int = CALIBRATED
    check: int = CHECKED

    def __post_init__(self) -> None:
        """Check each value, and those that depend on each other."""
        for name, known in CHOICES.items():
            said = getattr(self, name)
            if said not in known:
                raise OptionError(f"--{name} '{said}'", hint=f"give {', '.join(known)}")
        if self.activations == "int8" and self.weights != "int8":
            raise OptionError(f"int8 activations with {self.weights} weights", hint="give --weights int8 too")
        if self.calibrate < 1 or self.check < 1:
            raise OptionError(f"{self.calibrate} and {self.check} phrases", hint="give numbers of at least 1")

    @property
    def activation_type(self) -> str:
        """Of what the linear layers read: "int8" or "float"."""
        return self.activations if self.activations != "auto" else "int8" if self.weights == "int8" else "float"

    @property
    def table_type(self) -> str:
        """The number type of the token table, with "auto" decided."""
        return self.weights if self.table == "auto" else self.table


@dataclass(frozen=True)
class Quantization:
    """A student that was quantized.

    Attributes:
        reduction: sizes and features before and after.
        weights: number type of the linear layers' weights.
        activations: number type of what they read.
        table: number type of the token table; "same" as it was.
        calibrated: phrases that ranges of activations were chosen on.
        held_out: whether the two were compared on other phrases than these.
    """

    reduction: Reduction
    weights: str
    activations: str
    table: str
    calibrated: int
    held_out: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        own = {name: value for name, value in vars(self).items() if name != "reduction"}
        return own | self.reduction.to_json()

    def lines(self) -> list[str]:
        """For people."""
        first, *others = self.reduction.lines()
        table = "its token table as it was" if self.table == "same" else f"its token table {self.table}"
        said = f"weights {self.weights}, activations {self.activations}, {table}"
        if self.calibrated:
            on = "others" if self.held_out else "the same, there are too few"
            said += f"; calibrated on {self.calibrated:,} phrases, compared on {on}"
        return [first, said, *others]


def quantize_checkpoint(
    files: StudentFiles, texts: Sequence[str], options: QuantizeOptions, progress: StageProgress | None = None
) -> Quantization:
    """Fold a student if it is not, write it in smaller numbers, and compare it with what it was.

    Args:
        files: from where, and where to.
        texts: at least one phrase, to calibrate with and to compare on.
        options: what becomes of its numbers.
        progress: called with a stage and its share done, 0..1.

    Raises:
        EncoderError: not a student, one that is quantized already, or a number too large for fp16.
        OptionError: no phrases, the target is the source, or an option makes no sense.
        MissingExtraError: PyTorch is not installed.
        OSError: the file cannot be written.
    """

    def tell(stage: str) -> Callable[[float], None]:
        return lambda share: None if progress is None else progress(stage, share)

    student = files.read()
    folded = student if student.config.folded else student.fold()
    learn, check = part_texts(texts, options)
    ranges: dict[str, Tensor] = {}
    if options.activation_type == "int8":
        import copy

        from litetext.export.calibrate import calibrate

        ranges = calibrate(copy.deepcopy(folded).float(), learn, tell("calibrating"))
    smaller = quantize_student(folded, options, ranges)
    reduction = write_smaller(files, student, smaller, check, tell("comparing"))
    return Quantization(
        reduction=reduction,
        weights=options.weights,
        activations=options.activation_type,
        table=options.table_type,
        calibrated=len(learn),
        held_out=not set(learn) & set(check),
    )


def quantize_student(
    student: "TextStudent", options: QuantizeOptions, ranges: "dict[str, Tensor] | None" = None
) -> "TextStudent":
    """A student with smaller numbers, in eval mode on the CPU.

    Args:
        student: folded, in floating point.
        options: what becomes of its numbers.
        ranges: of each linear layer's input, as `calibrate` gives them; needed for int8 activations.

    Raises:
        OptionError: the student is not folded, or its token table has an odd number of columns for int4.
    """
    from litetext.encoders.meta_init import meta_init
    from litetext.encoders.student import TextStudent

    weights: Weights = "int8" if options.weights == "int8" else "float"
    activations: Activations = "int8" if options.activation_type == "int8" else "float"
    table: Table = {"int8": "int8", "int4": "int4"}.get(options.table_type, "float")  # type: ignore[assignment]
    config = replace(student.config, weights=weights, activations=activations, table=table)
    state: dict[str, Tensor] = {}
    for name, tensor in student.state_dict().items():
        state |= _stored(name, tensor.detach().cpu(), options)
    if activations == "int8":
        state |= {f"{name}.input_range": ends for name, ends in (ranges or {}).items()}
    with meta_init():
        smaller = TextStudent(config)
    smaller.load_state_dict(state, strict=True, assign=True)
    return smaller.eval()


def part_texts(texts: Sequence[str], options: QuantizeOptions) -> tuple[list[str], list[str]]:
    """Phrases to calibrate with, and others to compare on, each phrase in one part only where there are two or more.

    Without int8 activations nothing is calibrated.
    """
    if options.activation_type != "int8":
        return [], draw_texts(texts, options.check)
    every = draw_texts(texts, options.calibrate + options.check)
    learn = every[: min(options.calibrate, max(len(every) - options.check, (len(every) + 1) // 2))]
    return learn, every[len(learn) :][: options.check] or learn


def _stored(name: str, tensor: "Tensor", options: QuantizeOptions) -> "dict[str, Tensor]":
    """What a tensor becomes in the file, by name."""
    from litetext.encoders.quantized import quantize_table, quantize_weight

    layer, _, leaf = name.rpartition(".")
    kind = options.table_type
    if name == TABLE and kind in {"int8", "int4"}:
        weight, scale = quantize_table(tensor, "int8" if kind == "int8" else "int4")
        return {name: weight, f"{layer}.scale": scale}
    if name == TABLE:
        return {name: tensor.to(_number(kind, tensor))}
    if options.weights == "int8" and leaf == "weight" and layer.rpartition(".")[2] in LINEAR_LAYERS:
        weight, scale = quantize_weight(tensor)
        return {name: weight, f"{layer}.scale": scale}
    return {name: tensor.to(_number(options.weights, tensor))}


def _number(word: str, tensor: "Tensor") -> "torch.dtype":
    """The type for a word of `HALVES`, else that of the tensor."""
    import torch

    number: torch.dtype = getattr(torch, HALVES[word]) if word in HALVES else tensor.dtype
    return number
