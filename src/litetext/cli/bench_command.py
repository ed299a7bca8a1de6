"""`litetext bench`."""

from pathlib import Path
from typing import Annotated

import typer

from litetext.cli._app import Result, command
from litetext.cli._options import PATH_OR_HUB, ContextLength, Positions, read_corpus
from litetext.cli._output import check_ours, check_target, echo, show_progress
from litetext.errors import OptionError


@command(
    "Device",
    "litetext bench micro-student",
    "litetext bench s0.safetensors --prompts prompts.txt --teacher sam3.pt -o bench",
    "litetext bench s0 --backends huggingface,onnx-int8 --baseline s0/huggingface --threads 1",
    "litetext bench exported bank.safetensors --batches 1,8 --json",
)
def bench(
    students: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDENT...",
            show_default=False,
            help="Students; sizes (s0, s1, l, ...: random weights); exported folders and banks, measured as they are.",
        ),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar=PATH_OR_HUB, help="SAM3's text encoder, measured beside them.")
    ] = None,
    backends: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Ways to run a student, by commas: huggingface, torch, torch-bf16, torch-int8, onnx, onnx-int8, "
            "openvino, openvino-int8, bank. Default: all.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="ROW", help="Compare with this row. Default: the teacher, else Hugging Face's."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Phrases to encode; may be repeated. Default: the bundled corpus."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Also write bench.json and bench.md there.")
    ] = None,
    batches: Annotated[str, typer.Option(metavar="SIZES", help="Phrases of a call, by commas.")] = "1,8,32,128",
    rounds: Annotated[int, typer.Option(help="Passes over all rows; medians are reported.")] = 3,
    seconds: Annotated[float, typer.Option(help="To spend on each batch size of a row in a round.")] = 1.0,
    phrases: Annotated[int, typer.Option(help="Phrases whose features are compared with fp32 PyTorch.")] = 1000,
    threads: Annotated[int | None, typer.Option(help="To compute with. Default: one for each core.")] = None,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Measure text encoders side by side on this machine.

    Speed, memory and exactness of each row, in fresh processes; failed rows show the reason.
    """
    from litetext.export.benchmark import BACKENDS, BenchOptions, run_benchmark, to_markdown
    from litetext.storage import to_json, write_text

    try:
        sizes = tuple(int(size) for size in batches.split(","))
    except ValueError as error:
        raise OptionError(f"batches of '{batches}' phrases", hint="give whole numbers by commas: 1,8,32") from error
    names = BACKENDS if backends is None else tuple(name.strip() for name in backends.split(","))
    how = {"rounds": rounds, "seconds": seconds, "phrases": phrases, "threads": threads}
    read = {"positions": positions, "context_length": context_length}
    options = BenchOptions(names, teacher, baseline, sizes, **how, **read)  # type: ignore[arg-type]
    if output is not None:
        check_target(output, models=[teacher, *(students or ())], sources=prompts, folder=True)
        check_ours(output / "bench.json", '"machine"')
    with show_progress() as progress:
        report = run_benchmark(students or [], read_corpus(prompts).texts, options, progress)
    text = to_markdown(report)
    if output is not None:
        for file, content in (("bench.json", to_json(report) + "\n"), ("bench.md", text)):
            write_text(output / file, content)
            echo(f"{output / file} written", err=True)
    return Result(report, text)
