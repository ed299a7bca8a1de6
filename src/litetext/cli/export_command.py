"""`litetext export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from litetext.cli._app import Result, command
from litetext.cli._options import (
    ContextLength,
    OutputFolder,
    Positions,
    Sources,
    StudentArgument,
    open_encoder,
    read_corpus,
)
from litetext.cli._output import check_target, show_progress
from litetext.errors import OptionError


@command(
    "Device",
    "litetext export micro-student --to onnx -o student-onnx",
    "litetext export s0.pt --positions slice --context-length 16 --to onnx --dtype fp16 -o s0-onnx",
    "litetext export s0-int8.safetensors prompts.txt --to openvino -o s0-openvino",
)
def export(
    student: StudentArgument,
    target: Annotated[
        Literal["onnx", "openvino", "executorch", "coreml"],
        typer.Option("--to", show_default=False, help="The engine."),
    ],
    output: OutputFolder,
    sources: Sources = None,
    dtype: Annotated[
        Literal["fp32", "fp16"],
        typer.Option(help="What a student with float weights computes in; one of `litetext quantize` is int8."),
    ] = "fp32",
    length: Annotated[
        int | None, typer.Option(help="Tokens that the program takes, padding counted; none: any number, where it can.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Texts that the program takes at once; none: any number, where it can.")
    ] = None,
    phrases: Annotated[int, typer.Option(help="Phrases to compare with PyTorch on, spread over the corpus.")] = 500,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Write a student as a program for an engine.

    With its tokenizer: a folder that serves without PyTorch.
    """
    from litetext.export.targets.engine import TargetOptions

    options = TargetOptions(length, batch_size, dtype)
    if phrases < 1:
        raise OptionError(f"{phrases} phrases to compare on", hint="give at least 1")
    check_target(output, models=[student], sources=sources, folder=True)
    texts = read_corpus(sources).texts
    encoder = open_encoder(student, positions, context_length, "cpu")
    from litetext.export.exporter import ExportPlan, export_student

    plan = ExportPlan(target, output, Path(student).name, options)
    some = texts[:: max(1, len(texts) // phrases)][:phrases]
    with show_progress() as progress:
        done = export_student(encoder, plan, some, lambda share: progress("comparing", share))
    bundle, size = done.bundle, f"{done.bytes / 1e6:.2f} MB with its tokenizer"
    text = f"{done.folder}: {bundle.model} ({bundle.options.precision}), {size}\n{bundle.comparison()}"
    return Result(done.to_json(), text)
