"""`litetext bank`."""

from pathlib import Path
from typing import Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import Context, Device, Dtype, Positions, open_encoder
from litetext.cli.outputs import check_target
from litetext.cli.students import Output
from litetext.errors import MissingExtraError, OptionError


@app.command(
    epilog="\b\nExamples:\n  litetext bank phrases.txt -o bank.safetensors --encoder facebook/sam3\n"
    "  litetext bank phrases.txt -o bank.safetensors --encoder micro --number int8 --json\n"
    "  litetext bank -o bank.safetensors --features CACHE\n"
    "  litetext segment photo.jpg -p 'white dog' --text bank.safetensors"
)
def bank(
    output: Output,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="The phrases: files, folders, globs or - as `litetext audit` reads them. None: the bundled corpus, or "
            "all phrases of --features.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="PATH|HF_ID", help="Encodes the phrases: SAM3, a student, micro, or a text model."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="CACHE", help="Instead: features that `litetext embed` has computed.")
    ] = None,
    number: Annotated[str, typer.Option(help="What features are stored in: fp16 or int8.")] = "fp16",
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Read every source as this format.")
    ] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME", help="Column or field with the text.")] = None,
    positions: Positions = "auto",
    context: Context = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Store the features of a closed list of phrases: a text encoder without parameters, for --text.

    With SAM3 as the encoder, these phrases keep SAM3's own quality, and no text encoder is needed.
    """
    try:
        from litetext.features.bank_making import FeatureSource, make_bank
    except ImportError as error:
        raise MissingExtraError("features of an encoder", "sam3") from error
    from litetext.features.bank_file import check_number, is_bank
    from litetext.prompts.readers import ReadOptions

    check_number(number)
    if (encoder is None) == (features is None):
        raise OptionError("features come from an encoder or a cache", hint="give either --encoder or --features")
    if encoder is not None and is_bank(encoder):
        raise OptionError("a bank of a bank", where=encoder, hint="give the encoder that it was made with")
    if features is not None and (context is not None or {positions, device, dtype} != {"auto"}):
        raise OptionError("options of an encoder for features that are there", hint="leave them out")
    check_target(output, models=(encoder, features), sources=sources)
    # A file of phrases that is not there is told before an encoder is loaded.
    every = features is not None and not sources
    phrases = None if every else read_corpus(sources, ReadOptions(file_format, column)).texts
    if features is not None:
        source = FeatureSource.of_cache(features)
    else:
        source = FeatureSource.of_encoder(open_encoder(str(encoder), positions, context, device, dtype))
    with show_progress() as progress:
        report = make_bank(output, phrases, source, number, lambda share: progress("encoding", share))
    if json:
        print_json(report.to_json())
        return
    echo(report.bank.describe())
    echo(
        f"read back: {report.checked:,} phrases, cosine with the features as computed: mean "
        f"{report.cosine['mean']:.6f}, min {report.cosine['min']:.6f}"
    )
