"""Core ML (experimental): a student as an ``.mlpackage`` for iPhones and Macs. It has never run on a Mac."""

from pathlib import Path
from typing import TYPE_CHECKING

from litetext.errors import MissingExtraError
from litetext.export.targets import OUTPUTS, TargetOptions
from litetext.export.targets.program import ServedProgram, export_program, quiet_converter, with_float_weights

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent

FILE = "text.mlpackage"


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write ``text.mlpackage`` of a folded student for iOS 17, macOS 14 and later; it answers as `ServedProgram` does.

    Core ML has neither int64 nor bool at its borders: ``input_ids`` and ``attention_mask`` are int32 [B, L], and
    ``text_mask`` is a number, 1 at tokens that were read. Both sizes are fixed, since Apple's neural engine wants that.
    With "fp16" all of it is computed in float16, which is what that engine does; with "int8" so are linear layers and
    the token table, whose weights are int8 with a scale for each row. The metadata holds the student's configuration.

    The length is by default the student's context, the batch 1. Returns the package's name; it is a folder.
    """
    plain = with_float_weights(student, table=True)
    program = ServedProgram(plain, options.length or student.config.context_length)
    with quiet_converter():
        try:
            import coremltools as ct
            from coremltools.optimize import coreml
        except ImportError as error:
            raise MissingExtraError("export to Core ML", "coreml") from error
        half = options.precision != "fp32"
        model = ct.convert(
            export_program(program, options.batch or 1).run_decompositions({}),
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            outputs=[ct.TensorType(name=name) for name in OUTPUTS],
            skip_model_load=True,
        )
        if options.precision == "int8":
            rule = coreml.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
            model = coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=rule))
        model.short_description = "SAM3's text features of CLIP's token ids, by a LiteText student"
        model.license = "see NOTICE.txt beside this package"
        model.user_defined_metadata["litetext.config"] = student.config.to_json()
        model.save(str(folder / FILE))
    return FILE
