"""`litetext track`."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import argument, choose_phrases, option, warn_of_phrases
from litetext.cli._output import MOST_ROWS, echo, failed_rows, print_missing, print_table, show_progress
from litetext.errors import MissingExtraError, OptionError
from litetext.storage import only_writer

if TYPE_CHECKING:
    from litetext.scale.picture_jobs import TrackJob
    from litetext.video.frames import Clip
    from litetext.video.track_files import TrackRun
    from litetext.video.tracking import Tracker


@command(
    "Segmenting",
    "litetext track street.mp4 -p 'red car' -p person -o tracked",
    "litetext track clip.webm --prompts names.txt --json",
    "litetext track frames/ -p dog --overlay gif --overlay mp4 -o dogs",
    "litetext track long.mkv -p dog --every 5 --from 1:30 --to 10:00 -o found",
    "ffmpeg -i rtsp://door/ -c copy -f matroska - | litetext track - -p person -o door",
    "litetext track --camera 0 -p cup --text-encoder bank.safetensors -o desk",
)
def track(
    clips: Annotated[
        list[str] | None, argument("Video, GIF, WebP, folder or glob of frames; - for standard input.", metavar="CLIP")
    ] = None,
    phrases: opt.Phrases = None,
    prompts: opt.PhraseSources = None,
    output: Annotated[
        Path | None,
        option("Write overlay videos, masklets.json, tracks.csv, counts.csv.", "-o", "--output", metavar="DIR"),
    ] = None,
    overlay: Annotated[
        list[str] | None,
        option(
            "Kind of overlay video; may be repeated. Default: mp4, if PyAV is installed.",
            metavar="mp4|webm|gif|webp|none",
        ),
    ] = None,
    camera: Annotated[int | None, option("Number of a camera, instead of a clip.", metavar="N")] = None,
    every: Annotated[int, option("Track every Nth frame.", metavar="N")] = 1,
    start: Annotated[str | None, option("First frame: 300, or a time: 12.5s, 1:02.5.", "--from", metavar="T")] = None,
    stop: Annotated[str | None, option("Frame before which to end, in the same way.", "--to", metavar="T")] = None,
    method: opt.Method = "auto",
    threshold: Annotated[
        float | None, option("Things are followed from a detection with a higher score on. Default: the method's.")
    ] = None,
    refine_edges: Annotated[
        bool | None,
        option(
            "Masks follow the edges of the picture. Default: if they are coarse, as the micro model's are.",
            "--refine-edges/--no-refine-edges",
        ),
    ] = None,
    model: opt.Model = "facebook/sam3",
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
    no_calibration: opt.NoCalibration = False,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> Result:
    """Follow every instance of each phrase through a video.

    Without -p and --prompts: all phrases of a bank. An interrupted or killed run resumes automatically; Ctrl-C ends a
    stream.
    """
    from litetext.sam3.segmenter import SegmentOptions
    from litetext.video.frames import open_clip
    from litetext.video.methods import choose_method, make_tracker
    from litetext.video.overlay import FORMATS
    from litetext.video.track_files import TrackRun
    from litetext.video.tracking import Tracker

    if overlay and output is None:
        raise OptionError("an overlay without a place", where=f"--overlay {overlay[0]}", hint="give -o DIR")
    on_cluster = opt.check_workers(ray, workers, output)
    if clips and len(clips) > 1 and not on_cluster:
        hint = "give one; of frames their folder, or a glob in quotes"
        raise OptionError(f"{len(clips)} clips at once", where=f"{clips[0]}, ...", hint=hint)
    if output is not None and output.suffix.lower() in FORMATS:
        raise OptionError("a video as the output", where=f"-o {output}", hint="name a folder; it gets the videos")
    clip = clips[0] if clips else None
    options = SegmentOptions() if threshold is None else SegmentOptions(threshold=threshold)
    loaded = (positions, context_length, device, dtype, fallback, engine, None, no_calibration)
    choice = opt.ModelChoice(model, text_encoder, *loaded)
    asked, way = choose_phrases(phrases, prompts, model, text_encoder), choose_method(method)
    follow = {"method": way, "threshold": threshold, "refine_edges": refine_edges}
    settings = {name: str(value) for name, value in follow.items()}
    settings |= {"every": str(every), "from": str(start), "to": str(stop)}
    kinds = [kind for kind in overlay or _default_overlays(output) if kind != "none"]
    if on_cluster:
        if camera is not None or not clips or "-" in clips:
            raise OptionError("a stream on a cluster", where="--ray", hint="give clips that every node can read")
        from litetext.scale.picture_jobs import TrackJob

        chosen = choice.on_an_actor(video=way == "tracker")
        job = TrackJob(
            load=partial(chosen.load, options, asked, video=way == "tracker"),
            phrases=asked,
            made_by=choice.describe() | settings,
            overlays=kinds,
            read={"every": every, "start": start, "stop": stop},
            follow=follow,
        )
        return _track_on_cluster(job, clips, Path(output or ""), str(ray), workers, device)

    def load() -> Tracker:
        segmenter = choice.load(options, run.phrases, video=way == "tracker")
        warn_of_phrases(run.phrases, segmenter.encoder)
        return make_tracker(segmenter, run.phrases, way, threshold=threshold, refine_edges=refine_edges)

    with open_clip(clip, every=every, start=start, stop=stop, camera=camera) as frames:
        source = clip if frames.replayable else None
        run = TrackRun(source, asked, choice.describe() | settings, output, overlays=kinds)
        with run.locked():
            summary = _run(run, frames, load)
    if output is not None:
        overlays = "".join(f"{path.name}, " for path in run.overlays.values())
        echo(f"{overlays}masklets.json, tracks.csv, counts.csv: {output}", err=True)

    def show() -> None:
        print_tracks(summary)
        if output is None:
            echo("nothing was saved; -o DIR writes overlay videos, masklets and boxes", err=True)

    return Result({**summary, "output": output and str(output)}, show)


def _track_on_cluster(
    job: "TrackJob", clips: list[str], output: Path, ray: str, workers: int | None, device: str
) -> Result:
    """Each clip by an actor of a cluster, into a folder of its own."""
    from litetext.scale.jobs import connect
    from litetext.scale.picture_jobs import track_clips

    with only_writer(output, "to this folder"), connect(ray, workers, device) as cluster, show_progress() as progress:
        summaries, done = track_clips(cluster, job, clips, output, progress)
        report = done.report(cluster)
    echo(f"a folder for each clip: {output}", err=True)

    def show() -> None:
        for summary in summaries:
            echo(summary["clip"])
            print_tracks(summary)

    return Result({"clips": summaries, "output": str(output), "ray": report}, show, failed_rows(report))


def _default_overlays(output: Path | None) -> tuple[str, ...]:
    """An mp4; none where PyAV, which writes videos in 100 MB, is not installed, and then that is told."""
    if find_spec("av") is not None:
        return ("mp4",)
    if output is not None:
        echo(f"no overlay video; for one: {MissingExtraError('writing videos', 'video')}", err=True)
    return ()


def print_tracks(summary: Mapping[str, Any]) -> None:
    """A line for each phrase: how many tracks, the frames with any (numbers count from 0), and the best score.

    Of many phrases those without a track are named below.
    """
    rows, listed = [], summary["phrases"]
    found = listed if len(listed) <= MOST_ROWS else [row for row in listed if row["tracks"]]
    for row in found:
        best = "-" if row["best"] is None else f"{row['best']:.2f}"
        cells = ["-" if row[name] is None else str(row[name]) for name in ("tracks", "first", "last", "frames")]
        rows.append((row["phrase"], *cells, best))
    height, width = summary["size"]
    caption = f"{summary['frames']} frames of {width} x {height} pixels"
    print_table(("phrase", "tracks", "first frame", "last frame", "frames", "best score"), rows, caption)
    print_missing([row["phrase"] for row in listed if row not in found])


def _run(run: "TrackRun", frames: "Clip", load: Callable[[], "Tracker"]) -> dict[str, Any]:
    """Track, and tell on standard error what is worth knowing beside the result."""
    if run.finished is not None:
        echo("finished by an earlier run, nothing to do", err=True)
    elif run.resumed:
        echo(f"{run.resumed} frames were finished by an earlier run", err=True)
    try:
        with show_progress() as progress:
            summary = run.track(frames, load, progress)
    except BaseException:
        if run.totals.frames and run.folder is not None and not run.is_stream:
            kept = f"{run.totals.frames} frames are finished and kept in {run.folder}"
            echo(f"{kept}; the same command resumes", err=True)
        raise
    for warning in frames.warnings:
        echo(f"warning: {warning}", err=True)
    if run.speed:
        echo(f"{run.speed:.1f} frames/s", err=True)
    return summary
