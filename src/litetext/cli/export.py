"""`litetext export`."""

from pathlib import Path
from typing import Annotated, cast

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import Context, Positions, open_encoder
from litetext.cli.outputs import check_target
from litetext.cli.students import Student


@app.command(
    epilog="\b\nExamples:\n  litetext export micro-student --to onnx -o student-onnx\n"
    "  litetext export s0.pt --positions slice --context 16 --to onnx --precision fp16 -o s0-onnx\n"
    "  litetext export s0-int8.safetensors prompts.txt --to openvino -o s0-openvino"
)
def export(
    student: Student,
    target: Annotated[
        str, typer.Option("--to", metavar="TARGET", show_default=False, help="onnx, openvino, executorch or coreml.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", show_default=False, help="The folder to write.")
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="Phrases to compare with PyTorch on, as `litetext audit` reads them. None: the bundled corpus.",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32 or fp16, for a student with float weights; one of `litetext quantize` is int8.")
    ] = "fp32",
    length: Annotated[
        int | None, typer.Option(help="Tokens that the program takes, padding counted; none: any number, where it can.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Texts that the program takes at once; none: any number, where it can.")
    ] = None,
    phrases: Annotated[int, typer.Option(help="Phrases to compare on, spread over the corpus.")] = 500,
    positions: Positions = "auto",
    context: Context = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Write a student as a program for an engine, with its tokenizer: a folder that serves without PyTorch."""
    from litetext.errors import OptionError
    from litetext.export.targets.target import Precision, TargetOptions
    from litetext.prompts.readers import ReadOptions

    options = TargetOptions(length, batch, cast("Precision", precision))  # which refuses any other word
    if phrases < 1:
        raise OptionError(f"{phrases} phrases to compare on", hint="give at least 1")
    check_target(output, models=[student], sources=sources, folder=True)
    texts = read_corpus(sources, ReadOptions()).texts
    encoder = open_encoder(student, positions, context, "cpu")
    from litetext.export.exporter import ExportPlan, export_student

    plan = ExportPlan(target, output, Path(student).name, options)
    some = texts[:: max(1, len(texts) // phrases)][:phrases]
    with show_progress() as progress:
        done = export_student(encoder, plan, some, lambda share: progress("comparing", share))
    if json:
        print_json(done.to_json())
        return
    bundle, size = done.bundle, f"{done.bytes / 1e6:.2f} MB with its tokenizer"
    echo(f"{done.folder}: {bundle.model} ({bundle.options.precision}), {size}\n{bundle.comparison()}")
