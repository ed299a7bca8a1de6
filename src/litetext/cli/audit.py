"""`litetext audit`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.injection import Injection
from litetext.cli.models import MODEL_HELP as HOST_HELP
from litetext.cli.models import open_encoder
from litetext.cli.outputs import check_ours, check_target
from litetext.errors import OptionError


@app.command(
    epilog="\b\nExamples:\n  litetext audit\n  litetext audit prompts.txt 'data/*.json' -o report\n"
    "  litetext audit annotations.json.gz --json\n  cut -f1 log.tsv | litetext audit - --context 8,12,16\n"
    "  litetext audit --attenuation student.safetensors --host micro -o report\n"
    "  litetext audit prompts.txt --attenuation s0.pt --student-positions slice --student-context 16 "
    "--host facebook/sam3 --images photos/"
)
def audit(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="Files, folders, globs or - for standard input: .txt .csv .tsv .json .jsonl .parquet, COCO, LVIS, "
            "SA-Co, RefCOCO .p, Hugging Face data sets; .gz and .zst too. None: the bundled corpus.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write report.html, report.json and figures/*.svg there."),
    ] = None,
    context: Annotated[
        str, typer.Option(metavar="L,L,...", help="Context lengths to report, start and end tokens counted.")
    ] = "8,16,32,77",
    limit: Annotated[float, typer.Option(help="Share of prompts that the advised context may truncate.")] = 0.01,
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Read every source as this format.")
    ] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME", help="Column or field with the text.")] = None,
    count_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column or field with the count.")] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(metavar="FILE[#NAME]", help="Embeddings [N, D] to measure: .npy, .npz or .safetensors."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|HF_ID",
            help="Text encoder to measure geometry and word order with: any that `inspect` knows, or another Hugging "
            "Face text model.",
        ),
    ] = None,
    encoder_positions: Annotated[
        str, typer.Option(metavar="HOW", help="Position table of the encoder: auto, slice, interpolate or keep.")
    ] = "auto",
    encoder_context: Annotated[int | None, typer.Option(help="Tokens that the encoder reads.")] = None,
    positions: Annotated[
        str | None,
        typer.Option(metavar="FILE[#NAME]", help="Position table [T, C]: an array, or a checkpoint that has one."),
    ] = None,
    attenuation: Annotated[
        str | None,
        typer.Option(
            metavar="STUDENT",
            help="Inject this student's error into the text features of --host and follow it to the masks.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="PATH|HF_ID", help=f"With --attenuation. {HOST_HELP}")] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="With --attenuation: images, folders or globs, may be repeated; the prompts are asked of them. Or "
            "micro, the default with --host micro: scenes of the micro world with phrases of their own.",
        ),
    ] = None,
    pairs: Annotated[int | None, typer.Option(help="The most (image, phrase) pairs of --attenuation; 300.")] = None,
    student_positions: Annotated[
        str, typer.Option(metavar="HOW", help="Position table of the student: auto, slice, interpolate or keep.")
    ] = "auto",
    student_context: Annotated[int | None, typer.Option(help="Tokens that the student reads.")] = None,
    sample: Annotated[int, typer.Option(help="Distinct prompts whose features the encoder computes.")] = 5000,
    discard: Annotated[float, typer.Option(help="Share of the largest ratios that TwoNN leaves out.")] = 0.1,
    neighbors: Annotated[
        str, typer.Option(metavar="K,K", help="Range of neighbors that the MLE averages over.")
    ] = "10,20",
    seed: Annotated[int, typer.Option(help="Seed of samples and bootstraps.")] = 0,
    device: Annotated[str, typer.Option(help="Where encoder and host run: auto, cpu, cuda, mps.")] = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Measure what prompts use of a text encoder, and what size would do."""
    from litetext.auditing.geometry import GeometryOptions
    from litetext.auditing.order import OrderOptions
    from litetext.auditing.run import AuditOptions, Inputs
    from litetext.auditing.run import audit as run_audit
    from litetext.prompts.readers import ReadOptions

    k_min, k_max = _integers(neighbors, "--neighbors", count=2)
    options = AuditOptions(
        contexts=_integers(context, "--context"),
        truncation_limit=limit,
        sample=sample,
        seed=seed,
        geometry=GeometryOptions(discard=discard, k_min=k_min, k_max=k_max, seed=seed),
        order=OrderOptions(seed=seed),
    )
    injection = Injection(attenuation, host, tuple(images or ()), pairs, student_positions, student_context)
    if output is not None:
        read = [*(sources or ()), *(images or ())]
        check_target(output, models=(encoder, attenuation, host), sources=read, folder=True)
        check_ours(output / "report.html", "<title>LiteText audit")
    corpus = read_corpus(sources, ReadOptions(file_format, column, count_column))
    inputs = Inputs(
        None if encoder is None else open_encoder(encoder, encoder_positions, encoder_context, device),
        _load_embeddings(embeddings),
        _load_positions(positions),
    )
    with show_progress() as progress:
        inputs = replace(inputs, attenuation=injection.measure(corpus, device, seed, progress))
        report = run_audit(corpus, inputs, options, progress)
    page = None
    if output is not None:
        from litetext.auditing.page import write_report

        page = write_report(report, output)
    if json:
        print_json(report.to_json())
    else:
        from litetext.auditing.tables import print_report

        print_report(report)
    if page is not None:
        echo(f"Report: {page}", err=True)


def _load_embeddings(spec: str | None) -> Any:
    from litetext.storage import load_matrix

    return None if spec is None else load_matrix(spec)


def _load_positions(spec: str | None) -> Any:
    from litetext.auditing.position_rank import load_positions

    return None if spec is None else load_positions(spec)


def _integers(text: str, option: str, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers of a comma-separated list."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"'{text}' is not a list of whole numbers", where=option, hint="for example 8,16") from None
    if count is not None and len(values) != count:
        raise OptionError(f"{len(values)} numbers where {count} are needed", where=option, hint="for example 10,20")
    return values
