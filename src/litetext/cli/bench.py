"""`litetext bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litetext.bench.rows import Row
    from litetext.bench.run import BenchOptions, BenchReport
    from litetext.bench.work import Work


@app.command(
    epilog="\b\nExamples:\n  litetext bench --quick --student micro-student\n"
    "  litetext bench prompts.txt --student s0.safetensors --teacher sam3.pt -o bench\n"
    "  litetext bench --rows 'huggingface,masked-*' --threads 1 --json\n"
    "\b\nFor a device without PyTorch, make the files elsewhere, and take the folder there:\n"
    "  litetext bench --quick --student s0.safetensors --work files\n"
    "  litetext bench --work files\n"
    "  litetext bench --artefact exported --artefact bank.safetensors"
)
def bench(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="Phrases to encode: files, folders, globs or - as `litetext audit` reads them. None: the bundled "
            "corpus.",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(metavar="PATH|HF_ID", help="The student. Default: random weights; speed and memory are the same."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Size of a student with random weights: s0 (default), s1, l, ...")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="PATH|HF_ID", help="SAM3's text encoder. Default: random weights of its size (1.4 GB)."),
    ] = None,
    artefact: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="An exported folder or a bank to measure as it is; may be repeated."),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Rows to measure, with * and ?, by commas. Default: all; with --artefact only those.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Also write bench.json, bench.md and pictures (PNG) there."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the files that are measured, for another run. Default: they go."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round of half a second each, 200 phrases compared; no teacher.")
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="Passes over all rows. Default: 3.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="To spend on each batch size of a row in a round. Default: 3.")
    ] = None,
    phrases: Annotated[
        int | None, typer.Option(help="Phrases whose features are compared with fp32 PyTorch. Default: 5000.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="To compute with. Default: one for each core.")] = None,
    positions: Annotated[
        str, typer.Option(metavar="HOW", help="Position table of the student: auto, slice, interpolate or keep.")
    ] = "auto",
    context: Annotated[int | None, typer.Option(help="Tokens that the student reads.")] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Measure text encoders side by side on this machine's processor: speed, memory and exactness, in one run.

    Each row is measured in fresh processes, and a row that cannot be measured says why.
    """
