"""The student that a training starts from: random weights, or those of a checkpoint."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from litetext.checkpoints.load import CHOICES, Positions, StudentTensors, read_student_tensors
from litetext.checkpoints.tensors import listed
from litetext.distillation.recipe import StudentOptions
from litetext.encoders.position_tables import resize_positions
from litetext.encoders.student import TextStudent, build_student
from litetext.encoders.token_tables import factorize_table
from litetext.errors import EncoderError

if TYPE_CHECKING:
    from litetext.encoders.config import StudentConfig

TABLE, UP, POSITIONS = "token_table.weight", "token_table.up.weight", "positions"


def start_student(options: StudentOptions, output: int, seed: int) -> TextStudent:
    """A student in training mode, on the CPU in float32.

    From a checkpoint every weight is taken, and none is made up: but the projector of a MobileCLIP, which has none, and
    the factors of a token table, which are those nearest to the whole table of the file.

    Args:
        options: what to build, and from what.
        output: width of the features.
        seed: of the random weights.

    Raises:
        EncoderError: the checkpoint cannot be read, or is of other sizes.
        OptionError: the sizes make no sense.
    """
    config = options.config(output)
    student = build_student(config, torch.Generator().manual_seed(seed))
    if options.init:
        found = read_student_tensors(options.init)
        student.load_state_dict(_fitted(found, config, options, dict(student.state_dict())))
    return student


def _fitted(
    found: StudentTensors, config: "StudentConfig", options: StudentOptions, fresh: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The checkpoint's tensors, brought to the sizes of the student."""
    given = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.tensors.items()}
    given[POSITIONS] = _positions(given[POSITIONS], found.sizes.output is None, config.context_length, options)
    if config.rank is not None and UP not in given and given[TABLE].shape[1] == config.width:
        given[TABLE], given[UP] = factorize_table(given[TABLE], config.rank)
    if found.sizes.output is None:
        given |= {name: tensor for name, tensor in fresh.items() if name.startswith("projector.")}
    faults = [name for name in fresh if name not in given or given[name].shape != fresh[name].shape]
    faults += [name for name in given if name not in fresh]
    if faults:
        of = found.preset.name if found.preset else "other sizes"
        raise EncoderError(
            f"a student of {of} cannot start one of {config.name} ({len(faults)} tensors do not fit: {listed(faults)})",
            where=options.init,
            hint="give its preset and rank, or leave out init",
        )
    bad = [name for name, tensor in given.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise EncoderError(f"NaN or infinity in {listed(bad)}", where=options.init, hint="give another checkpoint")
    return given


def _positions(table: Tensor, is_mobileclip: bool, rows: int, options: StudentOptions) -> Tensor:
    how: Positions = options.positions
    if how == "auto" and len(table) != rows:
        if not is_mobileclip:
            raise EncoderError(
                f"a position table of {len(table)} rows for a context of {rows}", where=options.init, hint=CHOICES
            )
        how = "slice"
    return resize_positions(table, rows, "keep" if how == "auto" else how)
