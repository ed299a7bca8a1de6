"""`litetext segment`."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import argument, option
from litetext.cli._output import echo, print_table, show_progress
from litetext.errors import LiteTextError, shortened

if TYPE_CHECKING:
    from litetext.features.protocol import TextEncoder

# What people write between phrases: commas (not those in 1,000), semicolons, strokes, and full stops as Grounding DINO
# has them (not those in "St. Bernard").
_BETWEEN = re.compile(r"(?<!\d),|,(?!\d)|[;|/]|\s\.\s|\.\s+(?=.+\.\s*$)")


@command(
    "Segmenting",
    "litetext segment photo.jpg -p 'white dog' -p leash -o found",
    "litetext segment photos/ 'more/*.png' -p person --json",
    "litetext segment photo.jpg -p dog --text-encoder s0.pt --positions slice --context-length 16",
    "litetext segment photo.jpg -p dog --text-encoder bank.safetensors --fallback student.safetensors",
)
def segment(
    images: Annotated[list[str], argument("Images, folders of images, or globs.", metavar="IMAGE")],
    prompts: Annotated[list[str], option("What to find; may be repeated.", "-p", "--prompt", metavar="PHRASE")],
    output: Annotated[Path | None, option("Write overlays, annotations.json.", "-o", "--output", metavar="DIR")] = None,
    threshold: Annotated[float, option("Instances with a higher score are kept.")] = 0.5,
    model: opt.Model = "facebook/sam3",
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
) -> Result:
    """Find every instance of each phrase in images.

    Masks, overlays (NAME.png) and COCO annotations. An interrupted run resumes automatically.
    """
    from litetext.sam3.images import find_images
    from litetext.sam3.segment_files import SegmentRun, check_failures, overlays_of
    from litetext.sam3.segmenter import SegmentOptions

    options = SegmentOptions(threshold=threshold)
    choice = opt.ModelChoice(model, text_encoder, positions, context_length, device, dtype, fallback, engine)
    files = find_images(images, () if output is None else overlays_of(output))
    run = SegmentRun(files, prompts, choice.describe() | {"threshold": str(threshold)}, output)
    hint_at_lists(prompts)
    with run.locked():
        segmenter = choice.load(options, prompts)
        warn_of_long(prompts, segmenter.encoder)
        try:
            with show_progress() as progress:
                data = run.segment(segmenter, progress)
        except BaseException:
            if output is not None:
                done = f"{len(run.records)} of {len(files)} images are finished and kept in {output}"
                echo(f"{done}; the same command resumes", err=True)
            raise
    if run.resumed:
        echo(f"{run.resumed} of {len(files)} images were finished by an earlier run", err=True)
    if output is not None:
        echo(f"Overlays and annotations.json: {output}", err=True)
    failure: LiteTextError | None = None
    try:
        check_failures(data)
    except LiteTextError as error:  # names the images that failed: exit status 1 after what was printed
        failure = error
    return Result(data, lambda: print_found(data), failure)


def print_found(data: Mapping[str, Any]) -> None:
    """A line for each image and phrase, with the number of instances and the best score; no table without an image."""
    scores: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for annotation in data["annotations"]:
        scores[annotation["image_id"], annotation["category_id"]].append(annotation["score"])
    rows = []
    for image in data["images"]:
        for category in data["categories"]:
            found = scores[image["id"], category["id"]]
            best = f"{max(found):.2f}" if found else "-"
            rows.append((image["file_name"], category["name"], str(len(found)), best))
    if rows:
        print_table(("image", "phrase", "masks", "best score"), rows, texts=2)


def hint_at_lists(prompts: Sequence[str]) -> None:
    """Say on standard error where a phrase looks like several, or like a file of phrases."""
    for prompt in prompts:
        parts = [part.strip() for part in _BETWEEN.split(prompt) if part.strip(" .")]
        if os.path.isfile(prompt):  # noqa: PTH113 - a `Path` fails on a phrase that is too long for a name
            echo(f"hint: '{shortened(prompt)}' is a file, but -p takes a phrase; repeat -p for each line", err=True)
        elif len(parts) > 1:
            first = shortened(parts[0])
            echo(f"hint: '{shortened(prompt)}' is one phrase; for several repeat -p: -p '{first}' -p ...", err=True)


def warn_of_long(prompts: Sequence[str], encoder: "TextEncoder") -> None:
    """Say on standard error which phrases the encoder reads the beginning of only."""
    from litetext.tokenizer.bpe import clip_tokenizer

    for prompt, tokens in zip(prompts, clip_tokenizer().encode(prompts).lengths.tolist(), strict=True):
        if tokens > encoder.context_length:
            echo(
                f"warning: only {encoder.context_length} of {tokens} tokens are read of '{shortened(prompt)}'", err=True
            )
