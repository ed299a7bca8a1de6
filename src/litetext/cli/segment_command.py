"""`litetext segment`."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import argument, choose_phrases, option, warn_of_phrases
from litetext.cli._output import MOST_ROWS, echo, failed_rows, print_missing, print_table, show_progress
from litetext.errors import LiteTextError, OptionError
from litetext.storage import only_writer

if TYPE_CHECKING:
    from litetext.sam3.segmenter import SegmentOptions


@command(
    "Segmenting",
    "litetext segment photo.jpg -p 'white dog' -p leash -o found",
    "litetext segment photos/ 'more/*.png' --prompts names.txt -o found",
    "litetext segment photo.jpg -p dog --text-encoder s0.pt --positions slice --context-length 16",
    "litetext segment photo.jpg -p dog --text-encoder bank.safetensors --fallback student.safetensors",
)
def segment(
    images: Annotated[
        list[str], argument("Images, folders of images, or globs; with --ray Parquet too.", metavar="IMAGE")
    ],
    phrases: opt.Phrases = None,
    prompts: opt.PhraseSources = None,
    output: Annotated[
        Path | None, option("Write index.html, overlays, annotations.json.", "-o", "--output", metavar="DIR")
    ] = None,
    masks: Annotated[bool, option("Write a PNG of each mask too: masks/IMAGE/PHRASE-N.png.", "--masks")] = False,
    yolo: Annotated[bool, option("Write a data set to train YOLO on too: yolo/data.yaml.", "--yolo")] = False,
    threshold: Annotated[float, option("Instances with a higher score are kept.")] = 0.5,
    model: opt.Model = "facebook/sam3",
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
    no_calibration: opt.NoCalibration = False,
    threads: Annotated[int | None, option("To compute with, without PyTorch. Default: one for each core.")] = None,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> Result:
    """Find every instance of each phrase in images.

    A contact sheet, overlays (NAME.png) and COCO annotations. Without -p and --prompts: all phrases of a bank. An
    interrupted run resumes automatically. With --ray, -o NAME.parquet writes a folder of Parquet alone.
    """
    from litetext.sam3.images import find_images
    from litetext.sam3.segment_files import SegmentRun, check_failures, overlays_of
    from litetext.sam3.segmenter import SegmentOptions

    kinds = [kind for kind, is_asked in (("masks", masks), ("yolo", yolo)) if is_asked]
    if output is None and kinds:
        raise OptionError("files without a place", where=f"--{kinds[0]}", hint="give -o DIR")
    options = SegmentOptions(threshold=threshold)
    loaded = (positions, context_length, device, dtype, fallback, engine, threads, no_calibration)
    choice = opt.ModelChoice(model, text_encoder, *loaded)
    on_cluster = opt.check_workers(ray, workers, output)
    files = find_images(images, () if output is None else overlays_of(output))
    of_rows = _is_parquet(files, on_cluster) and not (phrases or prompts)  # each row has phrases of its own
    asked = [] if of_rows else choose_phrases(phrases, prompts, model, text_encoder)
    settings = choice.describe() | {"threshold": str(threshold)}
    if on_cluster:
        return _segment_on_cluster(
            choice, options, asked, files, settings, Path(output or ""), kinds, str(ray), workers
        )
    run = SegmentRun(files, asked, settings, output, kinds)
    with run.locked():
        segmenter = choice.load(options, run.phrases)
        warn_of_phrases(run.phrases, segmenter.encoder)
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
        echo(f"index.html, overlays, annotations.json: {output}", err=True)
    failure: LiteTextError | None = None
    try:
        check_failures(data)
    except LiteTextError as error:  # names the images that failed: exit status 1 after what was printed
        failure = error
    # Not in annotations.json, which is the same in every run; null for images of an earlier one.
    timed = [{**image, "milliseconds": run.milliseconds.get(image["file_name"])} for image in data["images"]]
    data = {**data, "images": timed}

    def show() -> None:
        print_found(data)
        if output is None and data["images"]:
            echo("nothing was saved; -o DIR writes a contact sheet, overlays and annotations.json", err=True)

    return Result(data, show, failure)


def _is_parquet(files: list[Path], on_cluster: bool) -> bool:
    """Whether the images are rows of Parquet, which only the actors of a cluster read."""
    found = all(file.suffix == ".parquet" for file in files)
    if found and not on_cluster:
        raise OptionError("images in Parquet", where=str(files[0]), hint="give --ray and -o NAME.parquet")
    return found


def _segment_on_cluster(
    choice: opt.ModelChoice,
    options: "SegmentOptions",
    asked: list[str],
    files: list[Path],
    settings: Mapping[str, Any],
    output: Path,
    kinds: list[str],
    ray: str,
    workers: int | None,
) -> Result:
    """The same folder by the actors of a cluster, with Parquet in it; NAME.parquet has the Parquet alone."""
    from litetext.sam3.segment_files import SegmentRun
    from litetext.scale.jobs import connect
    from litetext.scale.picture_jobs import PARTS, segment_images, segment_tables

    alone = output.suffix == ".parquet"
    if alone and kinds:
        raise OptionError("files in a folder of Parquet", where=f"--{kinds[0]}", hint="give -o DIR")
    if _is_parquet(files, True):
        if not alone:
            raise OptionError("images in Parquet become Parquet", where=str(output), hint="give -o NAME.parquet")
        start = partial(choice.on_an_actor().load, options, asked)
        with only_writer(output, "to this folder"), connect(ray, workers, choice.device) as cluster:
            with show_progress() as progress:
                written: dict[str, Any] = {"folder": output, "settings": settings, "progress": progress}
                job = segment_tables(cluster, files, asked or None, start, **written)
            done = job.report(cluster)
        return Result({"ray": done}, f"{output}: {done['rows']} rows now", failed_rows(done))
    run = SegmentRun(files, asked, settings, None if alone else output, kinds)
    start = partial(choice.on_an_actor().load, options, run.phrases)
    held = only_writer(output, "to this folder") if alone else run.locked()
    with held, connect(ray, workers, choice.device) as cluster, show_progress() as progress:
        data, job = segment_images(cluster, run, start, output if alone else output / PARTS, progress)
    if run.resumed:
        echo(f"{run.resumed} of {len(files)} images were finished by an earlier run", err=True)
    echo(f"{'parts' if alone else 'index.html, overlays, annotations.json, parts'}: {output}", err=True)
    done = job.report(cluster)
    text = f"{len(files)} images, {done['rows']} now" if alone else partial(print_found, data)
    return Result({**data, "ray": done}, text, failed_rows(done))


def print_found(data: Mapping[str, Any]) -> None:
    """A line for each image and phrase; where these are many, for each phrase that was found, the most found first."""
    if not data["images"]:
        return
    images, categories = data["images"], data["categories"]
    found: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for one in data["annotations"]:
        found[one["image_id"], one["category_id"]].append(one["score"])
    times = [image["milliseconds"] for image in images if image.get("milliseconds") is not None]
    caption = f"images: {len(images):,}, phrases: {len(categories):,}"
    caption += f", {median(times):.0f} ms per image" if times else ""
    rows, missing = list[tuple[str, str, str, str]](), []
    if len(images) * len(categories) <= MOST_ROWS:
        for image, category in product(images, categories):
            scores = found[image["id"], category["id"]]
            best = f"{max(scores):.2f}" if scores else "-"
            rows.append((image["file_name"], category["name"], str(len(scores)), best))
        print_table(("image", "phrase", "masks", "best score"), rows, caption, texts=2)
        return
    for category in categories:
        seen = [scores for image in images if (scores := found[image["id"], category["id"]])]
        if seen:
            figures = str(sum(map(len, seen))), str(len(seen)), f"{max(map(max, seen)):.2f}"
            rows.append((category["name"], *figures))
        else:
            missing.append(category["name"])
    rows.sort(key=lambda row: -int(row[1]))
    print_table(("phrase", "masks", "images", "best score"), rows, caption)
    print_missing(missing)
