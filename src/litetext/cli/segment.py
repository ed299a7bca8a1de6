"""`litetext segment`."""

from pathlib import Path
from typing import Annotated, cast

import typer

from litetext.cli.app import Debug, Json, app, print_json, show_progress
from litetext.errors import OptionError


@app.command(
    epilog="\b\nExamples:\n  litetext segment photo.jpg -p 'white dog' -p leash -o found\n"
    "  litetext segment photos/ 'more/*.png' -p person --json\n"
    "  litetext segment photo.jpg -p dog --text s0.pt --positions slice --context 16"
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
    model: Annotated[
        str, typer.Option(metavar="PATH|HF_ID", help="SAM3 model: a folder or a name on the Hugging Face hub.")
    ] = "facebook/sam3",
    text: Annotated[
        str | None,
        typer.Option(metavar="PATH|HF_ID", help="Text encoder instead of the model's own, which is then not loaded."),
    ] = None,
    positions: Annotated[
        str, typer.Option(help="Position table of the text encoder: auto, slice, interpolate or keep.")
    ] = "auto",
    context: Annotated[int | None, typer.Option(help="Tokens that the text encoder reads.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Number type: auto (float32), bf16 or fp16.")] = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Find every instance of each phrase in images: masks, overlays, COCO annotations."""
    try:
        from litetext.sam3.files import print_report, segment_files
        from litetext.sam3.images import find_images
        from litetext.sam3.segmenter import Segmenter, SegmentOptions, check_prompts
    except ImportError as error:
        from litetext.errors import MissingExtraError

        raise MissingExtraError("segmentation", "sam3") from error

    options = SegmentOptions(threshold=threshold)
    check_prompts(prompts)
    files = find_images(images)
    encoder = None
    if text is not None:
        from litetext.encoders.loading import Positions, load_encoder

        chosen = cast("Positions", positions)  # load_encoder refuses any other word
        encoder = load_encoder(text, positions=chosen, context=context, dtype=dtype, device=device)
    elif context is not None or positions != "auto":
        raise OptionError("a context or positions without a text encoder", mend="give --text")
    segmenter = Segmenter.load(model, encoder, device=device, dtype=dtype, options=options)
    with show_progress() as progress:
        report = segment_files(segmenter, files, prompts, output, progress)
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if output is not None:
        typer.echo(f"Overlays and annotations.json: {output}", err=True)
    report.check()  # names the images that failed: exit status 1
