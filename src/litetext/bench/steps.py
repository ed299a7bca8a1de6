"""The steps that make the files of the rows, each from the file of the step before. They need PyTorch; rows do not.

What is made stands in the work folder under the names of its steps, so that rows share it and another run finds it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from litetext.bench.memory import file_bytes
from litetext.bench.rows import BANK_PHRASES, Row
from litetext.bench.towers import halve, make_teacher, to_huggingface
from litetext.bench.work import Inputs, Work
from litetext.errors import EncoderError
from litetext.storage import to_json, write_text

if TYPE_CHECKING:
    from litetext.encoders.config import Padding
    from litetext.encoders.student import TextStudent

SEED = 0  # of random weights
CALIBRATED = 1000  # phrases that ranges of activations are chosen on
CHECKED = 64  # phrases that a step compares its work on; the run compares more
RANDOM = "random"  # what such weights are called


@dataclass(frozen=True)
class Making:
    """What a step has to work with.

    Attributes:
        inputs: of the run.
        texts: the phrases.
        source: what the step before made; for the first one, nothing.
        target: what is to be made.
    """

    inputs: Inputs
    texts: list[str]
    source: Path
    target: Path


Step = Callable[[Making], str | None]  # what the weights are called from here on; None: as before


def prepare(work: Work, row: Row) -> dict[str, Any]:
    """Make what a row measures, unless it is there.

    Returns:
        ``weights``, what they are, and ``bytes``, the size of the file or folder.

    Raises:
        LiteTextError: a step cannot be done.
        ImportError: a step needs a package that is not installed.
        OSError: a file cannot be written.
    """
    facts: dict[str, Any] = {"weights": row.title, "bytes": None}
    if not row.chain:
        return facts | {"bytes": file_bytes(work.file(row))}
    inputs, texts, source = work.inputs(), work.texts(), work.folder
    for count in range(1, len(row.chain) + 1):
        chain = row.chain[:count]
        target, known = work.made(chain), work.facts(chain)
        if known.is_file():
            facts = json.loads(known.read_bytes())
        else:
            weights = _make(chain[-1], Making(inputs, texts, source, target))
            facts = {"weights": weights or facts["weights"], "bytes": file_bytes(target)}
            write_text(known, to_json(facts))
        source = target
    return facts


def _make(step: str, making: Making) -> str | None:
    """Do a step beside its target, and move there what it made."""
    target = making.target
    beside = target.with_name(f".{target.name}.making{target.suffix}")
    for left in (target, beside):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
        left.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = STEPS[step](replace(making, target=beside))
    beside.rename(target)
    return weights


def _student(making: Making, padding: "Padding") -> str:
    """The student that all rows have, with its padding attended or masked; random weights where there is none."""
    import torch

    from litetext.checkpoints.writer import save_student
    from litetext.encoders.config import StudentConfig
    from litetext.encoders.student import build_student

    inputs = making.inputs
    if inputs.student is None:
        config = StudentConfig.of(inputs.preset, inputs.context_length, padding=padding)
        save_student(build_student(config, torch.Generator().manual_seed(SEED)).eval(), making.target)
        return RANDOM
    module = _load(inputs.student, inputs.positions, inputs.context_length)
    module.config = replace(module.config, padding=padding)
    save_student(module, making.target)
    return inputs.student


def _load(spec: str | Path, positions: str = "keep", context_length: int | None = None) -> "TextStudent":
    """A student in PyTorch, in float32.

    Raises:
        EncoderError: it cannot be loaded, or is no student.
    """
    from litetext.checkpoints.load import Positions, load_encoder
    from litetext.encoders.student import StudentEncoder

    encoder = load_encoder(spec, positions=cast("Positions", positions), context_length=context_length, device="cpu")
    if not isinstance(encoder, StudentEncoder):
        raise EncoderError("not a student", where=str(spec), hint="give a student; a teacher goes to --teacher")
    return encoder.module


def _fold(making: Making) -> None:
    from litetext.checkpoints.writer import save_student

    module = _load(making.source)
    save_student(module if module.config.folded else module.fold(), making.target)


def _bf16(making: Making) -> None:
    import torch

    from litetext.checkpoints.writer import save_student

    save_student(_load(making.source).to(torch.bfloat16), making.target)


def _teacher(making: Making) -> str:
    make_teacher(making.inputs.teacher, SEED, making.target)
    return making.inputs.teacher or RANDOM


def _huggingface(making: Making) -> str | None:
    return None if to_huggingface(_load(making.source), SEED, making.target) else f"{RANDOM}, of the same size"


def _halve(making: Making) -> None:
    halve(making.source, making.target)


def _prune(making: Making) -> None:
    from litetext.export.prune import prune_checkpoint

    prune_checkpoint(str(making.source), making.texts, making.target)


def _int8(making: Making) -> None:
    """Weights, activations and token table in int8."""
    from litetext.export.compress_io import StudentFiles
    from litetext.export.quantize import QuantizeOptions, quantize_checkpoint

    files = StudentFiles(str(making.source), making.target, "keep")
    options = QuantizeOptions("int8", "int8", calibrate=CALIBRATED, check=CHECKED)
    quantize_checkpoint(files, making.texts, options)


def _export(making: Making, target: str) -> None:
    from litetext.checkpoints.load import load_encoder
    from litetext.export.exporter import ExportPlan, export_student

    encoder = load_encoder(making.source, positions="keep", device="cpu")
    name = making.inputs.student or f"{RANDOM} weights"
    export_student(encoder, ExportPlan(target, making.target, name), making.texts[:CHECKED])


def _bank(making: Making) -> None:
    from litetext.checkpoints.load import load_encoder
    from litetext.features.bank_making import FeatureSource, make_bank

    encoder = load_encoder(making.source, positions="keep", device="cpu")
    make_bank(making.target, making.texts[:BANK_PHRASES], FeatureSource.of_encoder(encoder))


STEPS: dict[str, Step] = {
    "attended": lambda making: _student(making, "attended"),
    "masked": lambda making: _student(making, "masked"),
    "fold": _fold,
    "bf16": _bf16,
    "prune": _prune,
    "teacher": _teacher,
    "huggingface": _huggingface,
    "halve": _halve,
    "int8": _int8,
    "onnx": lambda making: _export(making, "onnx"),
    "openvino": lambda making: _export(making, "openvino"),
    "bank": _bank,
}
