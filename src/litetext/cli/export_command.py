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


@command(
    "Device",
    "litetext export micro-student --to onnx -o student-onnx",
    "litetext export s0.pt --positions slice --context-length 16 --to onnx --dtype fp16 -o s0-onnx",
    "litetext export small.safetensors prompts.txt --to executorch -o s0-executorch",
)
def export(
    student: StudentArgument,
    target: Annotated[
        Literal["onnx", "executorch", "coreml"],
        typer.Option("--to", show_default=False, help="onnx, which OpenVINO runs too; coreml is experimental."),
    ],
    output: OutputFolder,
    sources: Sources = None,
    dtype: Annotated[
        Literal["fp32", "fp16"],
        typer.Option(help="What a student with float weights computes in; one that is quantized is int8."),
    ] = "fp32",
    length: Annotated[
        int | None, typer.Option(help="Tokens that the program takes, padding counted; none: any number, where it can.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Texts that the program takes at once; none: any number, where it can.")
    ] = None,
    phrases: Annotated[int, typer.Option(help="Phrases to compare with PyTorch on.")] = 500,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Write a student as a program for an engine.

    With its tokenizer: a folder that serves without PyTorch. The program is compared with the student that went in.
    """
    from litetext.export.targets import TargetOptions

    options = TargetOptions(length, batch_size, dtype)
    check_target(output, models=[student], sources=sources, folder=True)
    corpus = read_corpus(sources)
    encoder = open_encoder(student, positions, context_length, "cpu")
    from litetext.export.compress import draw_texts
    from litetext.export.exporter import export_student, read_origin

    texts, name = draw_texts(corpus.texts, phrases), Path(student).name
    origin = read_origin(encoder.name)
    with show_progress() as progress:
        bundle = export_student(
            encoder,
            output,
            texts,
            target=target,
            options=options,
            name=name,
            origin=origin,
            progress=lambda share: progress("comparing", share),
        )
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    first = f"{output}: {bundle.model} ({bundle.options.precision}), {size / 1e6:.2f} MB with its tokenizer"
    return Result(bundle.to_json() | {"folder": str(output), "bytes": size}, f"{first}\n{bundle.comparison()}")
