"""Loading a text encoder from any checkpoint that is known: a file, a folder, or a name on the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from litetext.checkpoints.formats import TOWER, find_format
from litetext.checkpoints.hub import is_other_model, locate
from litetext.checkpoints.reader import Checkpoint, open_checkpoint
from litetext.checkpoints.rules import SAME, Rule, same
from litetext.checkpoints.shapes import UNUSED, Sizes, exact_types
from litetext.device import choose_device, choose_dtype
from litetext.encoders.config import Preset, StudentConfig
from litetext.encoders.position_tables import Resize, resize_positions
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextEncoder

if TYPE_CHECKING:
    import torch

    from litetext.encoders.student import TextStudent

Positions = Literal["auto", "slice", "interpolate", "keep"]
PRETRAINED_ROWS = 77  # of CLIP's and MobileCLIP's position tables, whatever context a student was trained for
CHOICES = (
    "say positions='slice' (the first rows, as the authors' deployed model reads them) or positions='interpolate' (the "
    "whole table stretched, as their training and transformers do); the wrong one ruins a student"
)


@dataclass(frozen=True, eq=False)
class StudentTensors:
    """Tensors to start a student's training from.

    Attributes:
        sizes: of the encoder; ``output`` is None where there is no projector to SAM3's decoder.
        preset: the row of `PRESETS` that it is; None for other sizes.
        tensors: our names to values in the file's number type, on the CPU; the position table as it is.
    """

    sizes: Sizes
    preset: Preset | None
    tensors: "dict[str, torch.Tensor]"


def load_encoder(
    path_or_id: str | Path,
    *,
    positions: Positions = "auto",
    context_length: int | None = None,
    dtype: "str | torch.dtype | None" = None,
    device: "str | torch.device | None" = None,
) -> TextEncoder:
    """Load SAM3's text encoder or a student of it; or, as `load_huggingface` does, any other Hugging Face text model.

    The format is recognized by the names of the tensors. Only the text side is read, and all of it must be there.

    Args:
        path_or_id: a .pt or .safetensors file, a folder with config.json and safetensors, the folder of a run of
            `litetext distill`, the name of a model in the package, or a name on the hub, which is downloaded unless it
            is in the local cache.
        positions: how the file's position table becomes one of ``context`` rows. "auto" keeps a table that already has
            them, and refuses to guess otherwise; "slice" takes the first rows; "interpolate" stretches the whole table;
            "keep" takes the table as it is. Which one a file needs is said in docs/checkpoints.md.
        context_length: tokens to read of a text, start and end token counted; None for the rows of the table, unless
            they are 77: released students carry such a table, but were trained for another context.
        dtype: as `choose_dtype` takes it.
        device: as `choose_device` takes it.

    Raises:
        EncoderError: nothing there, not whole, not known, or the position table does not fit.
        OptionError: an option makes no sense.
        MissingExtraError: PyTorch is not installed.
    """
    _check_positions(positions)
    target = choose_device(device)
    number = choose_dtype(dtype, target)
    name = str(path_or_id)
    if is_other_model(name):
        from litetext.checkpoints.huggingface import load_huggingface

        if positions not in {"auto", "keep"}:
            raise OptionError(
                f"positions '{positions}' for a model that is not SAM3's", where=name, hint="leave it out"
            )
        return load_huggingface(name, device=device, dtype=dtype, context_length=context_length)
    checkpoint = open_checkpoint(locate(name))
    plan = _plan(checkpoint, positions, context_length)
    if checkpoint.model == "teacher":
        return _teacher(checkpoint, plan, number, target)
    from litetext.encoders.student import StudentEncoder

    return StudentEncoder(_student(checkpoint, plan, number).to(target), checkpoint.where)


def load_stored_student(
    path_or_id: str | Path, *, positions: Positions = "auto", context_length: int | None = None
) -> "TextStudent":
    """A student in the number types of its file, on the CPU, in eval mode: for what makes a smaller one of it.

    Args:
        path_or_id: as `load_encoder` takes it.
        positions: as `load_encoder` takes it.
        context_length: as `load_encoder` takes it.

    Raises:
        EncoderError: nothing there, not whole, not a student, or the position table does not fit.
        OptionError: an option makes no sense.
        MissingExtraError: PyTorch is not installed.
    """
    _check_positions(positions)
    checkpoint = open_checkpoint(locate(str(path_or_id)))
    if checkpoint.model != "student":
        raise EncoderError("a teacher, not a student", where=checkpoint.where, hint="distill a student of it")
    return _student(checkpoint, _plan(checkpoint, positions, context_length), None)


def read_student_tensors(path_or_id: str | Path) -> StudentTensors:
    """Tensors to start a student's training from: of a trained student, or of Apple's MobileCLIP without a projector.

    Raises:
        EncoderError: nothing there, not whole, or not a student's.
        MissingExtraError: PyTorch is not installed.
    """
    checkpoint = open_checkpoint(locate(str(path_or_id)))
    if checkpoint.model != "student":
        raise EncoderError("a teacher, not a student", where=checkpoint.where, hint="give a student or a MobileCLIP")
    if checkpoint.own is not None and checkpoint.own.quantized:
        raise EncoderError(
            "a quantized student, which cannot start a training",
            where=checkpoint.where,
            hint="give the student that it was made of",
        )
    tensors = {name: tensor for name, tensor in checkpoint.read() if name != UNUSED}
    return StudentTensors(checkpoint.sizes, checkpoint.preset, tensors)


@dataclass(frozen=True)
class _Plan:
    """What to build: the configuration, with the rows wanted of the position table, and how to get them."""

    config: StudentConfig
    how: Resize


def _check_positions(positions: str) -> None:
    if positions not in get_args(Positions):
        raise OptionError(f"positions '{positions}'", hint=f"give {', '.join(get_args(Positions))}")


def _plan(checkpoint: Checkpoint, positions: Positions, context_length: int | None) -> _Plan:
    """Decide what becomes of the position table; what is not said is not guessed."""
    config = checkpoint.config()
    rows = config.context_length
    if positions in {"slice", "interpolate"}:
        if context_length is None:
            raise OptionError(
                f"positions '{positions}' to how many rows", where=checkpoint.where, hint="give a context"
            )
        how: Resize = "slice" if positions == "slice" else "interpolate"
        if context_length < 2 or (how == "slice" and context_length > rows):
            raise OptionError(f"a context of {context_length} of {rows} rows by '{how}'", where=checkpoint.where)
        return _Plan(replace(config, context_length=context_length), how)
    wanted = rows if context_length is None else context_length
    if wanted != rows or (positions == "auto" and context_length is None and rows == PRETRAINED_ROWS):
        goal = "without a context said" if context_length is None else f"for a context of {context_length}"
        raise EncoderError(f"a position table of {rows} rows {goal}", where=checkpoint.where, hint=CHOICES)
    return _Plan(config, "keep")


def _student(checkpoint: Checkpoint, plan: _Plan, number: "torch.dtype | None") -> "TextStudent":
    from litetext.encoders.meta_init import meta_init
    from litetext.encoders.student import TextStudent

    with meta_init():
        module = TextStudent(plan.config)
    rules = {name: Rule(name, (name,), SAME) for name in module.state_dict()}
    module.load_state_dict(dict(_weights(checkpoint, plan, rules, number)), strict=True, assign=True)
    return module.eval()


def _teacher(checkpoint: Checkpoint, plan: _Plan, number: "torch.dtype", target: "torch.device") -> TextEncoder:
    from litetext.encoders.meta_init import meta_init
    from litetext.encoders.teacher import TeacherConfig, TeacherEncoder, TextTeacher

    said = plan.config
    with meta_init():
        module = TextTeacher.of(
            TeacherConfig(
                said.width, said.heads, said.encoder_blocks, said.context_length, said.vocabulary, said.output
            )
        )
    row, root = find_format(module.state_dict(), "transformers", [TOWER])
    rules = {rule.ours: rule.below(root) for rule in row.rules(checkpoint.sizes.kinds)}
    rules |= {rule.ours: rule for rule in same("projector", "projector")}
    module.load_state_dict(dict(_weights(checkpoint, plan, rules, number)), strict=True, assign=True)
    return TeacherEncoder(module.to(target).eval(), checkpoint.where)


def _weights(
    checkpoint: Checkpoint, plan: _Plan, rules: Mapping[str, Rule], number: "torch.dtype | None"
) -> "Iterator[tuple[str, torch.Tensor]]":
    """Names and values of a module's weights, in the number type wanted; of the file one tensor at a time is held.

    Without one they keep theirs, as integers and what makes numbers of them always do.
    """
    exact = exact_types(checkpoint.sizes)
    for name, tensor in checkpoint.read():
        if name == UNUSED:
            continue
        value = resize_positions(tensor, plan.config.context_length, plan.how) if name == "positions" else tensor
        if value.is_floating_point():
            value = value.to(value.dtype if name in exact else number or value.dtype)
            low, high = value.aminmax()  # unlike isfinite, without a copy of a table of 200 MB
            if not (low.isfinite() and high.isfinite()):
                raise EncoderError(f"NaN or infinity in '{name}' as {value.dtype}", where=checkpoint.where)
        if name.endswith(".input_range") and not value[0] <= 0 <= value[1] != value[0]:
            raise EncoderError(
                f"'{name}' is {value.tolist()}, no range around 0", where=checkpoint.where, hint="quantize it again"
            )
        yield from zip(rules[name].theirs, rules[name].change.save(value), strict=True)
