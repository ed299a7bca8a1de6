"""`litetext embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import open_encoder
from litetext.cli.outputs import check_target

if TYPE_CHECKING:
    from litetext.features.embed import EmbedReport


@app.command(
    epilog="\b\nExamples:\n  litetext embed prompts.txt -o features --model sam3.pt\n"
    "  litetext embed 'data/*.json' more.csv -o features --model facebook/sam3 --dtype bf16 --json\n"
    "  litetext embed -o features --model s0.pt --positions slice --context 16"
)
def embed(
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="CACHE",
            show_default=False,
            help="The folder to write; one that is there already is completed.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="PATH|HF_ID",
            show_default=False,
            help="The teacher: any that `inspect` knows, or another Hugging Face text model.",
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="Files, folders, globs or - for standard input, as `litetext audit` reads them. None: the bundled "
            "corpus.",
        ),
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Read every source as this format.")
    ] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME", help="Column or field with the text.")] = None,
    positions: Annotated[
        str, typer.Option(metavar="HOW", help="Position table of the model: auto, slice, interpolate or keep.")
    ] = "auto",
    context: Annotated[int | None, typer.Option(help="Tokens that the model reads; none: its own context.")] = None,
    dtype: Annotated[str, typer.Option(help="Number type to store: fp16 or bf16.")] = "fp16",
    batch_tokens: Annotated[int, typer.Option(help="The most tokens that the model reads at once.")] = 2048,
    shard_tokens: Annotated[
        int, typer.Option(help="Tokens after which a file is closed; a kill costs the work on one file at most.")
    ] = 16_384,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu, cuda, mps.")] = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Compute a teacher's features of a corpus once, into a cache; after an interruption it goes on where it was."""
    try:
        from litetext.features.embed import EmbedOptions
        from litetext.features.embed import embed as run_embed
    except ImportError as error:
        from litetext.errors import MissingExtraError

        raise MissingExtraError("features of a teacher", "sam3") from error
    from litetext.prompts.readers import ReadOptions

    options = EmbedOptions(dtype, batch_tokens, shard_tokens)
    check_target(output, models=[model], sources=sources, folder=True)
    corpus = read_corpus(sources, ReadOptions(file_format, column))
    encoder = open_encoder(model, positions, context, device)
    with show_progress() as progress:
        report = run_embed(corpus, encoder, output, options, progress)
    if json:
        print_json(report.to_json())
    else:
        echo(_summary(report))


def _summary(report: "EmbedReport") -> str:
    held = report.manifest
    size = f"{held.phrases:,} phrases, {held.tokens:,} tokens, {held.bytes / 1e6:,.1f} MB, {len(held.shards):,} shards"
    if report.rate is None:
        return f"{report.path}: complete already ({size})"
    return f"{report.path}: {size}; {report.embedded:,} phrases embedded, {report.rate:,.1f} prompts/s"
