"""Loading a text encoder from any checkpoint that is known: a file, a folder, or a name on the Hugging Face hub."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from litetext.checkpoints.formats import TOWER, find_format, same
from litetext.checkpoints.hub import is_other_model, locate, shipped_folder
from litetext.checkpoints.reader import Checkpoint, open_checkpoint
from litetext.checkpoints.schema import UNUSED, exact_types
from litetext.device import choose_device, choose_dtype
from litetext.encoders.config import EncoderConfig
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextEncoder

if TYPE_CHECKING:
    import torch

    from litetext.encoders.student import TextStudent
    from litetext.encoders.teacher import TextTeacher

Positions = Literal["auto", "slice", "interpolate", "keep"]
PRETRAINED_ROWS = 77  # of CLIP's and MobileCLIP's position tables, whatever context a student was trained for
CHOICES = (
    "give positions='slice' (the first rows, as the authors' deployed model reads them) or positions='interpolate' "
    "(the whole table stretched, as their training and transformers do); the wrong one ruins a student"
)


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
        path_or_id: a .pt or .safetensors file, a folder with config.json and safetensors or of `litetext distill`, the
            name of a model in the package, or a name on the hub, downloaded unless it is in the local cache.
        positions: how the file's position table becomes one of ``context_length`` rows. "auto" keeps a table that
            already has them, and refuses to guess otherwise; "slice" takes the first rows; "interpolate" stretches the
            whole table; "keep" takes the table as it is. docs/reference/checkpoints.md says which one a file needs.
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
    if is_other_model(path_or_id):
        from litetext.checkpoints.huggingface import load_huggingface

        if positions not in {"auto", "keep"}:
            what = f"positions '{positions}' for a model that is not SAM3's"
            raise OptionError(what, where=str(path_or_id), hint="leave it out")
        return load_huggingface(path_or_id, device=device, dtype=dtype, context_length=context_length)
    checkpoint = open_checkpoint(locate(path_or_id))
    config, how = _plan(checkpoint, positions, context_length)
    module = _module(checkpoint, config, how, number).to(target)
    from litetext.encoders.encoder import ModuleEncoder
    from litetext.encoders.student import StudentEncoder, TextStudent

    name = str(path_or_id) if shipped_folder(str(path_or_id)) else checkpoint.where
    return StudentEncoder(module, name) if isinstance(module, TextStudent) else ModuleEncoder(module, name)


def open_student(path_or_id: str | Path) -> Checkpoint:
    """A student's checkpoint that is floating point, not yet read: what can be trained or made smaller."""
    checkpoint = open_checkpoint(locate(path_or_id))
    if checkpoint.layout.kind == "teacher":
        raise EncoderError("a teacher, not a student", where=checkpoint.where, hint="distill a student of it")
    if checkpoint.layout.quantized:
        what = f"a quantized student ({checkpoint.layout.describe_quantized()})"
        raise EncoderError(what, where=checkpoint.where, hint="give the student that it was made of")
    return checkpoint


def load_stored_student(
    path_or_id: str | Path, *, positions: Positions = "auto", context_length: int | None = None
) -> "TextStudent":
    """A student that `open_student` takes, in the dtypes of its file, on the CPU in eval mode; options as above."""
    _check_positions(positions)
    checkpoint = open_student(path_or_id)
    config, how = _plan(checkpoint, positions, context_length)
    return cast("TextStudent", _module(checkpoint, config, how, None))


def read_student_tensors(path_or_id: str | Path) -> "tuple[EncoderConfig, dict[str, torch.Tensor]]":
    """Tensors to start a training from: of a student that `open_student` takes, or a MobileCLIP without a projector.

    The values, by our names, are in the file's dtype on the CPU; the position table is as it is.
    """
    checkpoint = open_student(path_or_id)
    return checkpoint.layout, {name: tensor for name, tensor in checkpoint.read() if name != UNUSED}


def resize_positions(table: "torch.Tensor", rows: int, how: str) -> "torch.Tensor":
    """A position table [T, C] with L rows, in the way that the file's weights were trained; a copy in the same dtype.

    That is "slice", the first L rows; "interpolate", linearly over the whole table (half-pixel centres, without
    smoothing), computed in float32; or "keep", the table as it is, which must have L rows. Which is right cannot be
    seen in the table: SAM3-LiteText's training interpolates 77 rows, its deployed model reads the first, and a student
    fails where the two are mixed.
    """
    from torch.nn.functional import interpolate

    if table.ndim != 2 or rows < 1:
        raise OptionError(f"a position table {list(table.shape)} to {rows} rows", hint="give [T, C] and at least 1")
    have, width = table.shape
    fits = {"slice": rows <= have, "interpolate": True, "keep": rows == have}
    if not fits.get(how, False):
        raise OptionError(
            f"cannot make {rows} rows of a position table of {have} by '{how}'",
            hint="give 'slice' for its first rows, 'interpolate' to stretch it, or 'keep' where the numbers are equal",
        )
    if how == "interpolate":
        stretched = interpolate(table[None, None].float(), size=(rows, width), mode="bilinear")
        return stretched[0, 0].to(table.dtype)
    return table[:rows].clone()


def _check_positions(positions: str) -> None:
    if positions not in get_args(Positions):
        raise OptionError(f"positions '{positions}'", hint=f"give {', '.join(get_args(Positions))}")


def _plan(checkpoint: Checkpoint, positions: Positions, context_length: int | None) -> tuple[EncoderConfig, Positions]:
    """The configuration with the rows wanted of the position table, and how to get them; nothing is guessed."""
    config = checkpoint.config()
    rows = config.context_length
    if positions in {"slice", "interpolate"}:
        if context_length is None:
            what = f"positions '{positions}' without a context length"
            raise OptionError(what, where=checkpoint.where, hint="give a context")
        return replace(config, context_length=context_length), positions
    wanted = rows if context_length is None else context_length
    if wanted != rows or (positions == "auto" and context_length is None and rows == PRETRAINED_ROWS):
        goal = "without a context length" if context_length is None else f"for a context of {context_length}"
        raise EncoderError(f"a position table of {rows} rows {goal}", where=checkpoint.where, hint=CHOICES)
    return config, "keep"


def _module(
    checkpoint: Checkpoint, config: EncoderConfig, how: Positions, dtype: "torch.dtype | None"
) -> "TextStudent | TextTeacher":
    """The module with the checkpoint's weights, on the CPU in eval mode."""
    from litetext.encoders.layers import meta_init
    from litetext.encoders.student import TextStudent
    from litetext.encoders.teacher import TextTeacher

    with meta_init():
        module = TextStudent(config) if config.kind == "student" else TextTeacher(config)
    weights = _weights(checkpoint, config, how, dtype)
    if config.kind == "teacher":
        row, root = find_format(module.state_dict(), "transformers", [TOWER])
        rules = {rule.ours: rule.below(root) for rule in row.rules(config.block_kinds)}
        rules |= {rule.ours: rule for rule in same("projector", "projector")}
        weights = (
            pair
            for name, value in weights
            for pair in zip(rules[name].theirs, rules[name].change.save(value), strict=True)
        )
    module.load_state_dict(dict(weights), strict=True, assign=True)
    return module.eval()


def _weights(
    checkpoint: Checkpoint, config: EncoderConfig, how: Positions, dtype: "torch.dtype | None"
) -> "Iterator[tuple[str, torch.Tensor]]":
    """Our names and values of a module's weights; of the file one tensor at a time is held.

    If the dtype is None, tensors keep theirs; quantized weights and their scales always do.
    """
    exact = exact_types(config)
    for name, tensor in checkpoint.read():
        if name == UNUSED:
            continue
        value = resize_positions(tensor, config.context_length, how) if name == "positions" else tensor
        if value.is_floating_point():
            value = value.to(value.dtype if name in exact else dtype or value.dtype)
            low, high = value.aminmax()  # unlike isfinite, without a copy of a table of 200 MB
            if not (low.isfinite() and high.isfinite()):
                raise EncoderError(f"NaN or infinity in '{name}' as {value.dtype}", where=checkpoint.where)
        if name.endswith(".input_range") and not value[0] <= 0 <= value[1] != value[0]:
            what = f"'{name}' is {value.tolist()}, no range around 0"
            raise EncoderError(what, where=checkpoint.where, hint="quantize it again")
        yield name, value
