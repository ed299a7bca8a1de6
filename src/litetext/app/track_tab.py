"""Track: phrases through a clip; the overlay video, masklets with their ids, and a table of tracks."""

import json
import secrets
from collections.abc import Callable
from typing import Any

from litetext.app.workbench import MAX_PIXELS, Workbench, check_upload, messages, one_a_line, safe_html, template
from litetext.errors import ImageError, printable

MAX_FRAMES = 300
FRAME_SECONDS = 0.12  # of an example clip
COLUMNS = ("id", "phrase", "first frame", "last frame", "frames", "best score")
OVERLAY = "overlay.mp4"


def track(
    bench: Workbench,
    path: str | None,
    text: str,
    *,
    threshold: float | None = None,
    encoder: str | None = None,
    progress: Callable[..., None] = lambda *_: None,
) -> tuple[dict[str, Any], list[list[str]], list[str]]:
    """Follow phrases, one a line, through the first `MAX_FRAMES` frames of a clip.

    Returned are the summary of `TrackRun.track`, the rows of a table of tracks, and the files, the video first.
    """
    from litetext.video.frames import open_clip
    from litetext.video.methods import make_tracker
    from litetext.video.track_files import COUNTS, MASKLETS, TRACKS, TrackRun

    file, phrases = check_upload(path, "clip"), one_a_line(text)
    reader = bench.readers[0] if encoder is None else bench.reader(encoder)
    segmenter = reader.segmenter.with_options(reader.segmenter.options)
    folder = bench.new_folder()
    with open_clip(str(file), stop=MAX_FRAMES) as clip:
        if clip.size is not None and clip.size[0] * clip.size[1] > MAX_PIXELS:
            raise ImageError("a clip of too many pixels", where=file.name, hint="scale it down")
        made_by = {"model": bench.model, "text_encoder": reader.name, "threshold": str(threshold)}
        # As a stream: a run on the page is not resumed, and the name of an upload means nothing.
        run = TrackRun(None, phrases, made_by, folder)
        with run.locked():
            summary = run.track(clip, lambda: make_tracker(segmenter, phrases, threshold=threshold), progress)
    tracks = sorted(run.totals.tracks.items())
    rows = [
        [
            str(number),
            printable(run.phrases[one.phrase]),
            str(one.first),
            str(one.last),
            str(one.frames),
            f"{one.best:.2f}",
        ]
        for number, one in tracks
    ]
    return summary, rows, [str(folder / name) for name in (OVERLAY, MASKLETS, TRACKS, COUNTS)]


def draw_clip(bench: Workbench) -> tuple[str, str]:
    """A new clip of the micro world as a video, and phrases about it, one a line."""
    from litetext.micro.clips import PLOTS, make_clip
    from litetext.video.overlay import VideoWriter

    clip = make_clip(secrets.randbelow(2**31), PLOTS[secrets.randbelow(len(PLOTS))], split="test")
    path = bench.new_folder() / "clip.mp4"
    frames = [pixels for pixels, _ in clip]
    with VideoWriter(path, 1 / FRAME_SECONDS, frames[0].shape[:2]) as writer:
        for number, pixels in enumerate(frames):
            writer.add(pixels, number * FRAME_SECONDS)
    return str(path), "\n".join(dict.fromkeys(phrase.text for phrase in clip.phrases))


def render(summary: dict[str, Any], rows: list[list[str]]) -> str:
    """The HTML of what was found."""
    missing = [printable(one["phrase"]) for one in summary["phrases"] if not one["tracks"]]
    html = template("tracks.html").render(summary=summary, columns=COLUMNS, rows=rows, missing=missing, most=MAX_FRAMES)
    return safe_html(html)


def add_track(bench: Workbench, guard: Any) -> None:
    """Put the tab on the page that is being built."""
    import gradio as gr

    names = [reader.name for reader in bench.readers]
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            clip = guard(gr.Video(sources=["upload", "webcam"], label="Clip", buttons=[]))
            example = gr.Button("Another clip")
            phrases = gr.Textbox(label="Phrases to follow, one a line", lines=4, max_lines=4)
            threshold = gr.Slider(0.05, 0.95, 0.5, step=0.01, label="Threshold of new tracks", buttons=[])
            encoder = gr.Dropdown(names, value=names[0], label="Text encoder of the tracks", visible=len(names) > 1)
            start = gr.Button("Track", variant="primary")
        with gr.Column(scale=3, min_width=300):
            video = gr.Video(label="Masklets", interactive=False, height=420, autoplay=True, buttons=[])
            table = gr.HTML("<p>Upload a clip or draw one, then choose Track.</p>", elem_id="tracks")
            files = gr.Files(label="Video, masklets, boxes, counts", visible=False, interactive=False)
    answer, made, api = gr.JSON(visible=False), gr.Files(visible=False), gr.Button(visible=False)

    def run(path: str | None, text: str, low: float, name: str, progress: Any = gr.Progress()) -> Any:  # noqa: B008
        with messages():
            tell = lambda stage, share, note: progress(share, desc=f"{stage} {note}")  # noqa: E731
            summary, rows, written = track(bench, path, text, threshold=low, encoder=name, progress=tell)
            return written[0], render(summary, rows), gr.Files(written, visible=True)

    def api_track(clip: str | None, phrases: str, threshold: float, encoder: str) -> Any:
        """Follow phrases (one a line) through a clip: the summary, the tracks, and the files."""
        with messages():
            summary, rows, written = track(bench, clip, phrases, threshold=threshold, encoder=encoder)
            tracks = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
            return json.loads(json.dumps({**summary, "tracks": tracks})), written

    def draw() -> Any:
        with messages():
            return draw_clip(bench)

    model: Any = {"concurrency_id": "clips", "concurrency_limit": 1}
    hidden: Any = {"api_visibility": "private"}
    asked = [clip, phrases, threshold, encoder]
    ran: Any = {"fn": run, "inputs": asked, "outputs": [video, table, files], **model, **hidden}
    start.click(**ran)
    example.click(draw, None, [clip, phrases], **hidden).success(**ran)
    api.click(api_track, asked, [answer, made], api_name="track", **model)
