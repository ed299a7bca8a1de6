"""`litetext segment`."""

from pathlib import Path
from typing import Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.models import MODEL_HELP, Context, Device, Dtype, ModelChoice, Otherwise, Positions, Text


@app.command(
    epilog="\b\nExamples:\n  litetext segment photo.jpg -p 'white dog' -p leash -o found\n"
    "  litetext segment photos/ 'more/*.png' -p person --json\n"
    "  litetext segment photo.jpg -p dog --text s0.pt --positions slice --context 16\n"
    "  litetext segment photo.jpg -p dog --text bank.safetensors --otherwise student.safetensors"
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
    otherwise: Otherwise = None,
    positions: Positions = "auto",
    context: Context = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Find every instance of each phrase in images: masks, overlays, COCO annotations."""
    try:
        from litetext.sam3.files import print_report, segment_files
        from litetext.sam3.images import find_images
        from litetext.sam3.segmenter import SegmentOptions, check_prompts
    except ImportError as error:
        from litetext.errors import MissingExtraError

        raise MissingExtraError("segmentation", "sam3") from error

    options = SegmentOptions(threshold=threshold)
    check_prompts(prompts)
    files = find_images(images)
    segmenter = ModelChoice(model, text, positions, context, device, dtype, otherwise).load(options, prompts)
    with show_progress() as progress:
        report = segment_files(segmenter, files, prompts, output, progress)
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if output is not None:
        echo(f"Overlays and annotations.json: {output}", err=True)
    report.check()  # names the images that failed: exit status 1
