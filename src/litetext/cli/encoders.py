"""`litetext inspect` and `litetext convert`."""

from pathlib import Path
from typing import Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json
from litetext.cli.outputs import check_target
from litetext.errors import EncoderError


@app.command(
    epilog="\b\nExamples:\n  litetext inspect sam3.pt\n  litetext inspect vil-uob/sam3-litetext-s0 --json\n"
    "  litetext inspect exported"
)
def inspect(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="A .pt or .safetensors file, a model folder, a name on the Hugging Face hub, a prompt bank, or what "
            "`litetext export` wrote.",
        ),
    ],
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Say which checkpoint this is: format, variant, position table, parameters, and what is wrong with it."""
    from litetext.checkpoints.summary import summarize_checkpoint
    from litetext.export.bundle import is_bundle, open_bundle
    from litetext.features.bank_file import is_bank

    if is_bank(file):
        from litetext.features.bank import PromptBank

        bank = PromptBank.open(file)
        bank.file.verify()
        print_json(bank.to_json()) if json else echo(bank.describe())
        return
    if is_bundle(folder := Path(file)):
        bundle = open_bundle(folder)
        print_json(bundle.to_json()) if json else echo("\n".join(bundle.lines()))
        return
    summary = summarize_checkpoint(file)
    if json:
        print_json(summary.to_json())
    else:
        echo("\n".join(summary.lines()))
    if summary.faults:
        raise EncoderError(summary.faults, where=file)


@app.command(
    epilog="\b\nExamples:\n  litetext convert efficient_sam3_image_encoder_mobileclip_s0_ctx16.pt -o s0.safetensors "
    "--to litetext\n  litetext convert s0.safetensors -o s0-transformers --to huggingface"
)
def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="What `litetext inspect` takes.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            show_default=False,
            help="What to write: a file; for huggingface a folder, or a file that ends in .safetensors.",
        ),
    ],
    to: Annotated[str, typer.Option(metavar="FORMAT", show_default=False, help="litetext, upstream or huggingface.")],
    heads: Annotated[
        int | None, typer.Option(help="Attention heads, where the sizes are of no released encoder.")
    ] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Write the text encoder of a checkpoint in another format, bit for bit; its position table is not resized."""
    from litetext.checkpoints.conversion import convert_checkpoint

    check_target(output, models=[file], folder=to == "huggingface" and output.suffix != ".safetensors")
    done = convert_checkpoint(file, output, to, heads=heads)
    if json:
        print_json(done.to_json())
    else:
        echo(f"{done.target}: {done.target_format}, {done.variant}, {done.tensors} tensors, {done.rows} position rows")
