"""`litetext bench`."""

import random
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.cli._app import Result, command
from litetext.cli._options import PATH_OR_HUB, Sources, read_corpus
from litetext.cli._output import check_ours, check_target, echo, show_progress
from litetext.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from litetext.bench.rows import Row
    from litetext.bench.run import BenchOptions, BenchReport
    from litetext.bench.work import Work


@command(
    "Device",
    "litetext bench --quick --student micro-student",
    "litetext bench prompts.txt --student s0.safetensors --teacher sam3.pt -o bench",
    "litetext bench --rows 'huggingface,masked-*' --threads 1 --batches 1,8 --json\n"
    "\b\nFor a device without PyTorch, make the files elsewhere, and take the folder there:\n"
    "  litetext bench --quick --student s0.safetensors --work files",
    "litetext bench --work files",
    "litetext bench --bundle exported --quick",
    "litetext bench phrases.txt --bundle bank-of-phrases.safetensors",
)
def bench(
    sources: Sources = None,
    student: Annotated[
        str | None,
        typer.Option(metavar=PATH_OR_HUB, help="The student. Default: random weights; speed and memory are the same."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Size of a student with random weights: s0 (default), s1, l, ...")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar=PATH_OR_HUB, help="SAM3's text encoder. Default: random weights of its size (1.4 GB)."),
    ] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="An exported folder, or a bank of the phrases, to measure as it is; may be repeated."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Rows to measure, with * and ?, by commas. Default: all; with --bundle only those.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Also write bench.json, bench.md and pictures (PNG) there."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the files that are measured, for another run. Default: deleted afterwards."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="One round of half a second each, 200 phrases compared; a teacher only if one is given."
        ),
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="Passes over all rows. Default: 3.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="To spend on each batch size of a row in a round. Default: 2.")
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(metavar="SIZES", help="Phrases of a call, by commas; 1 among them. Default: 1,8,32,128."),
    ] = None,
    phrases: Annotated[
        int | None, typer.Option(help="Phrases whose features are compared with fp32 PyTorch. Default: 5000.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="To compute with. Default: one for each core.")] = None,
    positions: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Position table of the student: auto (default), slice, interpolate or keep."),
    ] = None,
    context_length: Annotated[int | None, typer.Option(help="Tokens that the student reads.")] = None,
) -> Result:
    """Measure text encoders side by side on this machine.

    Speed, memory and exactness, each row in fresh processes; failed rows show the reason.
    """
    from litetext.bench.rows import ARTEFACT, find_row
    from litetext.bench.run import run_bench

    said = {"rounds": rounds, "seconds": seconds, "phrases": phrases, "threads": threads, "batches": _sizes(batches)}
    options = _options(quick, said)
    given = [find_row(f"{ARTEFACT}{path}") for path in bundle or ()]
    chosen = [*given, *_choose(rows, alone=bool(given), small=quick and teacher is None)]
    made = {
        "student": student,
        "preset": preset,
        "teacher": teacher,
        "positions": positions,
        "context_length": context_length,
    }
    for place in (output, work):
        if place is not None:
            check_target(place, models=(student, teacher, *(bundle or ())), sources=sources, folder=True)
    if output is not None:
        check_ours(output / "bench.json", '"machine"')
    with _folder(work) as folder, show_progress() as progress:
        _begin(folder, sources, made)
        report = run_bench(folder, chosen, options, progress)
    written = [] if output is None else _write(report, output)
    for path in written:
        echo(f"{path} written", err=True)
    from litetext.bench.tables import to_markdown

    return Result(report.to_json(), to_markdown(report))


def _sizes(batches: str | None) -> tuple[int, ...] | None:
    """Batch sizes as the user gave them, the smallest first, each once.

    Raises:
        OptionError: not whole numbers.
    """
    if batches is None:
        return None
    try:
        return tuple(sorted({int(size) for size in batches.split(",")}))
    except ValueError as error:
        raise OptionError(f"batches of '{batches}' phrases", hint="give whole numbers by commas: 1,8,32") from error


def _options(quick: bool, said: dict[str, Any]) -> "BenchOptions":
    """The defaults, or those of a quick run, with what the user said otherwise."""
    from litetext.bench.run import QUICK, BenchOptions

    values = {name: value for name, value in said.items() if value is not None}
    return replace(QUICK if quick else BenchOptions(), **values)


def _choose(names: str | None, *, alone: bool, small: bool) -> "tuple[Row, ...]":
    """The rows of the table that are wanted.

    Args:
        names: as the user gave them; None for all.
        alone: whether bundles are given, and only these are meant unless rows are named.
        small: whether to leave out the teacher, which takes 3 GB of disk and most of the time, unless it is named.
    """
    from litetext.bench.rows import choose_rows

    if names is not None:
        return choose_rows(tuple(name.strip() for name in names.split(",")))
    rows = () if alone else choose_rows(("*",))
    return tuple(row for row in rows if not (small and row.group == "teacher"))


@contextmanager
def _folder(path: Path | None) -> "Iterator[Work]":
    """The work folder: the user's, or one that goes."""
    from litetext.bench.work import Work

    if path is not None:
        yield Work(path)
        return
    with TemporaryDirectory(prefix="litetext-bench-") as name:
        yield Work(Path(name))


def _begin(work: "Work", sources: "Sequence[str] | None", made: dict[str, Any]) -> None:
    """Say what the run is made of; a folder that was used is taken as it is where nothing is said.

    Raises:
        PromptError: a source cannot be read.
        LiteTextError: what is said makes no sense, or is not what the folder was made of.
    """
    from litetext.bench.work import Inputs

    if work.used and not sources and all(value is None for value in made.values()):
        return
    corpus = read_corpus(sources)
    texts = random.Random(0).sample(corpus.texts, len(corpus))  # noqa: S311 - nothing is secret
    name = ", ".join(Path(source).name for source in sources) if sources else "the bundled corpus"
    work.begin(Inputs.of(prompts=(name, texts), **made), texts)


def _write(report: "BenchReport", folder: Path) -> list[Path]:
    """Write the report as JSON, Markdown and pictures."""
    from litetext.bench.plots import write_plots
    from litetext.bench.tables import to_markdown
    from litetext.storage import to_json, write_text

    texts = {"bench.json": to_json(report.to_json()) + "\n", "bench.md": to_markdown(report)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *write_plots(report, folder)]
