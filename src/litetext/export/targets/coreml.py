"""Core ML: a student as an ``.mlpackage`` for iPhones and Macs, converted anywhere and run on Apple's systems."""

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litetext.errors import EncoderError, MissingExtraError
from litetext.export.targets.quiet import quiet_converter
from litetext.export.targets.shapes import Features, Ids, Mask, ProgramShape
from litetext.export.targets.target import OUTPUTS, TargetOptions
from litetext.storage import atomic_folder

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent

FILE = "text.mlpackage"
FEATURE = "export to Core ML"
KEY = "litetext."  # before each of our entries in the model's metadata


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write ``text.mlpackage``, for iOS 17 and macOS 14 or later, which answers as `ServedProgram` does.

    Core ML has neither int64 nor bool at its borders: ``input_ids`` and ``attention_mask`` are int32 [B, L], and
    ``text_mask`` is a number, 1 at tokens that were read. Both sizes are fixed, since Apple's neural engine wants that.
    With "fp16" all of it is computed in float16, which is what that engine does; with "int8" so are linear layers and
    the token table, whose weights are int8 with a scale for each row. The metadata holds the student's configuration.

    Args:
        student: folded, float32, on the CPU.
        folder: where to; an older package there is replaced as a whole.
        options: length None is the student's context; batch None is 1.

    Returns:
        The package's name; it is a folder.

    Raises:
        OptionError: a student that is not folded.
        MissingExtraError: coremltools is not installed.
        OSError: the package cannot be written.
    """
    from litetext.export.targets.program import (
        ServedProgram,
        export_program,
        with_float_linears,
        with_float_table,
    )

    program = ServedProgram(
        with_float_table(with_float_linears(student)), options.length or student.config.context_length
    )
    ct = _coremltools(FEATURE)
    with quiet_converter():
        exported = export_program(program, options.batch or 1).run_decompositions({})
        half = options.precision != "fp32"
        model = ct.convert(
            exported,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            outputs=[ct.TensorType(name=name) for name in OUTPUTS],
            skip_model_load=True,
        )
        if options.precision == "int8":
            model = _quantize(model)
        _describe(model, student, options.precision)
        _replace(model, folder / FILE)
    return FILE


def open_engine(folder: Path, file: str, threads: int | None) -> "CoreMlEngine":
    """An engine of a package that `write` wrote, on a Mac.

    Args:
        folder: where it is.
        file: its name.
        threads: not read: Core ML chooses where it computes.

    Raises:
        EncoderError: this is no Mac, there is no such package, or Core ML cannot load it.
        MissingExtraError: coremltools is not installed.
    """
    del threads
    path = folder / file
    if sys.platform != "darwin":
        raise EncoderError(
            "Core ML runs on Apple's systems only", where=str(path), hint="export --to onnx for this one"
        )
    if not (path / "Manifest.json").is_file():
        raise EncoderError("no such package", where=str(path), hint="export again")
    ct = _coremltools("running a Core ML program")
    try:
        return CoreMlEngine(ct.models.MLModel(str(path)))
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(f"Core ML cannot load it ({error})", where=str(path), hint="export it again") from error


class CoreMlEngine:
    """A loaded package; calls from several threads wait for each other.

    Args:
        model: coremltools' `MLModel`; its ``predict`` takes and gives arrays by name.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()
        inputs = {entry.name: entry.type.multiArrayType.shape for entry in model.get_spec().description.input}
        batch, length = inputs["input_ids"]
        self.shape = ProgramShape(length, batch, whole=True)

    def run(self, ids: Ids, mask: Mask) -> Features:
        """Features [B, L, D] of CLIP's ids [B, L], zero at padding; not-a-number for a text with an id without a row.

        Raises:
            EncoderError: not both [B, L], or longer than the program.
        """
        return self.shape.run(self._call, ids, mask)

    def _call(self, ids: Ids, mask: Mask) -> Features:
        # An id beyond int32 must not become another one.
        within = np.clip(ids, -1, np.iinfo(np.int32).max).astype(np.int32)
        with self._lock:
            answer = self._model.predict({"input_ids": within, "attention_mask": mask.astype(np.int32)})
        return np.asarray(answer["text_features"], dtype=np.float32)


def _coremltools(feature: str) -> Any:
    with quiet_converter():
        try:
            import coremltools
        except ImportError as error:
            raise MissingExtraError(feature, "coreml") from error
    return coremltools


def _quantize(model: Any) -> Any:
    """The same model with int8 weights, a scale for each row: linear layers and the token table, not the small rest."""
    from coremltools.optimize import coreml

    rule = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    return coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=rule))


def _describe(model: Any, student: "TextStudent", precision: str) -> None:
    """What an app's engineer sees in Xcode, and what our engine needs."""
    config = student.config
    model.short_description = (
        "SAM3's text features of CLIP's token ids, by a LiteText student. "
        f"Context {config.context_length}, {config.padding} padding."
    )
    model.license = "see NOTICE.txt beside this package"
    model.input_description["input_ids"] = "CLIP's ids, start and end token included; padding may be anything"
    model.input_description["attention_mask"] = "1 at tokens, 0 at padding, which stands on the right"
    model.output_description["text_features"] = f"[B, L, {config.output}], 0 at padding; NaN for an id without a row"
    model.output_description["text_mask"] = "1 at tokens that were read, 0 elsewhere"
    model.user_defined_metadata[f"{KEY}config"] = config.to_json()
    model.user_defined_metadata[f"{KEY}precision"] = precision


def _replace(model: Any, path: Path) -> None:
    """Write a package in one step."""
    with atomic_folder(path, is_ours=Path.is_dir) as beside:
        package = beside / path.name  # coremltools writes to names that end in .mlpackage only
        model.save(str(package))
        (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # for a debugger that is not ours
        for part in package.iterdir():
            part.rename(beside / part.name)
        package.rmdir()
