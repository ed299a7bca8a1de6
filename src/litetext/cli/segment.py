"""`litetext segment`."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.models import MODEL_HELP, Context, Device, Dtype, Fallback, ModelChoice, Positions, Text
from litetext.errors import MissingExtraError, shortened

if TYPE_CHECKING:
    from litetext.features.protocol import TextEncoder

# What people write between phrases: commas (not those in 1,000), semicolons, strokes, and full stops as Grounding DINO
# has them (not those in "St. Bernard").
_BETWEEN = re.compile(r"(?<!\d),|,(?!\d)|[;|/]|\s\.\s|\.\s+(?=.+\.\s*$)")


@app.command(
    epilog="\b\nExamples:\n  litetext segment photo.jpg -p 'white dog' -p leash -o found\n"
    "  litetext segment photos/ 'more/*.png' -p person --json\n"
    "  litetext segment photo.jpg -p dog --text s0.pt --positions slice --context 16\n"
    "  litetext segment photo.jpg -p dog --text bank.safetensors --fallback student.safetensors"
)
def segment(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", show_default=False, help="Images, folders of images, or globs."),
    ],
    prompts: Annotated[
        list[str],
        typer.Option("-p", "--prompt", metavar="PHRASE", show_default=False, help="What to find; may be repeated."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Write overlays (NAME.png) and annotations.json (COCO) there."
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Instances with a higher score are kept.")] = 0.5,
    model: Annotated[str, typer.Option(metavar="PATH|HF_ID", help=MODEL_HELP)] = "facebook/sam3",
    text: Text = None,
    fallback: Fallback = None,
    positions: Positions = "auto",
    context: Context = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Find every instance of each phrase in images: masks, overlays, COCO annotations."""
    try:
        from litetext.sam3.files import SegmentJob, print_report
        from litetext.sam3.images import find_images
        from litetext.sam3.journal import overlays_of
        from litetext.sam3.segmenter import SegmentOptions
    except ImportError as error:
        raise MissingExtraError("segmentation", "sam3") from error

    options = SegmentOptions(threshold=threshold)
    choice = ModelChoice(model, text, positions, context, device, dtype, fallback)
    files = find_images(images, () if output is None else overlays_of(output))
    job = SegmentJob.of(files, prompts, choice.describe() | {"threshold": str(threshold)})
    _hint(prompts)
    with job.open(output, goes_on=True) as kept:
        segmenter = choice.load(options, prompts)
        _warn_of_long(prompts, segmenter.encoder)
        try:
            with show_progress() as progress:
                report = job.run_all(segmenter, kept, progress)
        except BaseException:
            if kept is not None:
                done = f"{len(kept.records)} of {len(files)} images are finished and kept in {output}"
                echo(f"{done}; the same command goes on", err=True)
            raise
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if report.resumed:
        echo(f"{report.resumed} of {len(files)} images were finished by an earlier run", err=True)
    if output is not None:
        echo(f"Overlays and annotations.json: {output}", err=True)
    report.check()  # names the images that failed: exit status 1


def _hint(prompts: Sequence[str]) -> None:
    """Say on standard error where a phrase looks like several, or like a file of phrases."""
    for prompt in prompts:
        parts = [part.strip() for part in _BETWEEN.split(prompt) if part.strip(" .")]
        if os.path.isfile(prompt):  # noqa: PTH113 - a `Path` fails on a phrase that is too long for a name
            echo(f"hint: '{shortened(prompt)}' is a file, but -p takes a phrase; repeat -p for each line", err=True)
        elif len(parts) > 1:
            first = shortened(parts[0])
            echo(f"hint: '{shortened(prompt)}' is one phrase; for several repeat -p: -p '{first}' -p ...", err=True)


def _warn_of_long(prompts: Sequence[str], encoder: "TextEncoder") -> None:
    """Say on standard error which phrases the encoder reads the beginning of only."""
    from litetext.tokenizer.bpe import clip_tokenizer

    for prompt, tokens in zip(prompts, clip_tokenizer().encode(prompts).lengths.tolist(), strict=True):
        if tokens > encoder.context_length:
            echo(
                f"warning: only {encoder.context_length} of {tokens} tokens are read of '{shortened(prompt)}'", err=True
            )
