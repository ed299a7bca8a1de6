"""Segment: phrases on a picture, two text encoders side by side; a slider computes nothing again."""

import json
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from litetext.app.workbench import (
    SIZE_COLUMNS,
    Workbench,
    data_uri,
    messages,
    one_a_line,
    open_picture,
    plain_name,
    safe_html,
    template,
)
from litetext.assignment import assign
from litetext.errors import OptionError, printable
from litetext.sam3.drawing import palette
from litetext.sam3.found_files import mask_names, outlines
from litetext.sam3.masks import ImageMasks, Masks, RawMasks, encode_masks, mask_ious, to_masks
from litetext.sam3.segmenter import Exemplars, ImageEmbedding, Segmenter, SegmentOptions
from litetext.storage import to_json

LOWEST = 0.05  # of the slider: candidates with a lower score are not kept
SAME = 0.5  # IoU from which masks of two encoders count as one thing


@dataclass(frozen=True, eq=False)
class Kept:
    """What a session keeps: another phrase does not embed the picture again, and a slider computes nothing again.

    Attributes:
        digest: of the file of the picture.
        picture: RGB, at the size that is worked on.
        note: what was done to the picture, in words.
        image: the picture for the browser.
        embedding: what the model sees of it.
        segmenters: one for each text encoder, with caches of this session alone.
        phrases: what was asked.
        exemplars: boxes that went with them.
        raws: of each encoder, batch by batch, phrases and the candidates for their masks above `LOWEST`.
        times: milliseconds of each stage.
    """

    digest: str
    picture: Image.Image
    note: str
    image: str
    embedding: ImageEmbedding
    segmenters: Sequence[Segmenter]
    times: Mapping[str, float]
    phrases: Sequence[str] = ()
    exemplars: Exemplars | None = None
    raws: Sequence[Sequence[tuple[Sequence[str], RawMasks]]] = ()

    def masks(self, threshold: float, mask_threshold: float) -> list[ImageMasks]:
        """Of each text encoder the masks of all phrases."""
        SegmentOptions(threshold, mask_threshold)  # checks the ranges
        size = self.embedding.size
        return [
            ImageMasks(one for batch, raw in raws for one in to_masks(raw, batch, size, threshold, mask_threshold))
            for raws in self.raws
        ]


def look(bench: Workbench, path: str | None, kept: Kept | None = None) -> Kept:
    """Embed a picture, unless it is the one that is kept."""
    began = perf_counter()
    picture, digest, note = open_picture(path)
    opened = _milliseconds(began)
    if kept is not None and kept.digest == digest:
        return replace(kept, times={"read the picture": opened})
    began = perf_counter()
    embedding = bench.readers[0].segmenter.embed(picture)
    times = {"read the picture": opened, "embed the picture": _milliseconds(began)}
    # Segmenters keep the features of phrases: a session has its own, so that no answer depends on another's.
    own = [reader.segmenter.with_options(reader.segmenter.options) for reader in bench.readers]
    return Kept(digest, picture, note, data_uri(picture), embedding, own, times)


def ask(bench: Workbench, path: str | None, text: str, boxes: str = "", kept: Kept | None = None) -> Kept:
    """Ask every text encoder for phrases, one a line, with boxes that show what is meant, one a line."""
    phrases, exemplars = one_a_line(text), read_boxes(boxes)
    kept = look(bench, path, kept)
    times, raws = dict(kept.times), []
    for reader, segmenter in zip(bench.readers, kept.segmenters, strict=True):
        began, step, found = perf_counter(), segmenter.options.prompt_batch, []
        rows = segmenter.rows(phrases)
        times[f"{reader.name}: read the phrases"] = _milliseconds(began)
        began = perf_counter()
        for start in range(0, len(phrases), step):
            part = slice(start, start + step)
            found.append((phrases[part], _likely(segmenter.run(kept.embedding, rows[part], exemplars))))
        times[f"{reader.name}: find"] = _milliseconds(began)
        raws.append(found)
    return replace(kept, phrases=phrases, exemplars=exemplars, raws=raws, times=times)


def read_boxes(text: str) -> Exemplars | None:
    """Boxes of a text field: left, top, right, bottom in pixels, one a line, a minus before what is not meant."""
    boxes, positive = [], []
    for line in filter(None, map(str.strip, (text or "").splitlines())):
        try:
            left, top, right, bottom = (float(part) for part in line.removeprefix("not ").split(","))
        except ValueError:
            raise OptionError("not a box", where=printable(line[:40]), hint="give left, top, right, bottom") from None
        boxes.append([left, top, right, bottom])
        positive.append(not line.startswith("not "))
    if len(boxes) > 16:
        raise OptionError(f"{len(boxes)} boxes", hint="give at most 16")
    return Exemplars(boxes, positive) if boxes else None


def render(bench: Workbench, kept: Kept, threshold: float, mask_threshold: float) -> str:
    """The HTML of what was found: masks as shapes over the picture, a legend, what differs, times and sizes."""
    began = perf_counter()
    found = kept.masks(threshold, mask_threshold)
    times = {**kept.times, "make masks": _milliseconds(began)}
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in palette()]
    sides = [
        {
            "name": reader.name,
            "shapes": [
                (_path(mask), colors[number % len(colors)], f"{printable(one.prompt)} {score:.2f}")
                for number, one in enumerate(masks)
                for mask, _, score in _large_first(one)
            ],
            "legend": [
                (colors[number % len(colors)], printable(one.prompt), [f"{score:.2f}" for score in one.scores])
                for number, one in enumerate(masks)
            ],
        }
        for reader, masks in zip(bench.readers, found, strict=True)
    ]
    html = template("view.html").render(
        image=kept.image,
        note=kept.note,
        size=kept.picture.size,
        sides=sides,
        boxes=[] if kept.exemplars is None else np.asarray(kept.exemplars.boxes).tolist(),
        differences=differences(found),
        times=[(stage, f"{time:.1f} ms") for stage, time in times.items()],
        size_columns=SIZE_COLUMNS,
        sizes=[reader.sizes() for reader in bench.readers],
    )
    return safe_html(html)


def differences(found: Sequence[ImageMasks]) -> list[list[str]]:
    """For each phrase, how many things two encoders found, how many of them are the same, their IoU and scores."""
    rows = []
    for one, other in zip(*found, strict=True) if len(found) == 2 else ():
        ious = mask_ious(encode_masks(one.masks), encode_masks(other.masks))
        pairs = [(row, column) for row, column in zip(*assign(ious), strict=True) if ious[row, column] >= SAME]
        overlap = f"{np.mean([ious[pair] for pair in pairs]):.3f}" if pairs else "–"
        apart = max((abs(float(one.scores[row] - other.scores[column])) for row, column in pairs), default=None)
        scores = "–" if apart is None else f"{apart:.3f}"
        rows.append([printable(one.prompt), str(len(one)), str(len(other)), str(len(pairs)), overlap, scores])
    return rows


def coco(kept: Kept, masks: ImageMasks) -> dict[str, Any]:
    """What one text encoder found, as a COCO data set."""
    every = [one for number, found in enumerate(masks, 1) for one in found.to_coco(1, number)]
    return {
        "info": {"description": "masks of phrases in a picture", "note": kept.note},
        "images": [{"id": 1, "file_name": "picture", "width": kept.picture.width, "height": kept.picture.height}],
        "categories": [{"id": number, "name": phrase} for number, phrase in enumerate(kept.phrases, 1)],
        "annotations": [{"id": number, **one} for number, one in enumerate(every, 1)],
    }


def save(bench: Workbench, kept: Kept | None, threshold: float, mask_threshold: float) -> list[str]:
    """Write the overlay and the COCO JSON of each text encoder, and a ZIP file of these and the cut-outs."""
    if kept is None or not kept.raws:
        raise OptionError("nothing to save", hint="choose Segment first")
    folder, files = bench.new_folder(), []
    with zipfile.ZipFile(folder / "found.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for reader, masks in zip(bench.readers, kept.masks(threshold, mask_threshold), strict=True):
            name = plain_name(reader.name)
            overlay, data = folder / f"overlay-{name}.png", folder / f"annotations-{name}.json"
            masks.draw(kept.picture).save(overlay)
            data.write_text(to_json(coco(kept, masks)) + "\n", encoding="utf-8")
            for file in (overlay, data):
                archive.write(file, f"{name}/{file.name}")
                files.append(str(file))
            for path, cut in _cut_outs(kept, masks):
                with archive.open(f"{name}/{path}", "w") as target:
                    cut.save(target, "PNG")
    return [*files, str(folder / "found.zip")]


def draw_scene(bench: Workbench) -> tuple[str, str]:
    """A new scene of the micro world as a file, and phrases about it, one a line: three are there, one is not."""
    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    pairs = list(make_pairs(secrets.randbelow(2**31), 6, SceneOptions(split="test")))
    there = [pair.phrase.text for pair in pairs if pair.phrase.kind == "present"]
    absent = [pair.phrase.text for pair in pairs if pair.phrase.kind != "present"]
    path = bench.new_folder() / "scene.png"
    Image.fromarray(pairs[0].scene.pixels).save(path)
    return str(path), "\n".join([*there[:3], *absent[:1]])


def _likely(raw: RawMasks) -> RawMasks:
    """The candidates with the best scores, as many of each phrase as any phrase has above `LOWEST`."""
    most = int((raw.scores > LOWEST).sum(axis=1).max(initial=0))
    order = np.argsort(-raw.scores, axis=1, kind="stable")[:, :most]
    masks = np.stack([raw.logits(row, kept) for row, kept in enumerate(order)])
    boxes = np.take_along_axis(raw.boxes, order[..., None], axis=1)
    return RawMasks(np.take_along_axis(raw.scores, order, axis=1), boxes, masks)


def _cut_outs(kept: Kept, masks: ImageMasks) -> Iterator[tuple[str, Image.Image]]:
    """Each thing alone, transparent around it, under a name with its phrase."""
    record = {"overlay": "cutouts.png", "annotations": coco(kept, masks)["annotations"]}
    pixels = np.asarray(kept.picture)
    names = mask_names(record, kept.phrases)
    for name, mask in zip(names, (mask for one in masks for mask in one.masks), strict=True):
        box = Image.fromarray(mask).getbbox()
        if box is not None:
            alpha = np.where(mask, np.uint8(255), np.uint8(0))
            yield name.removeprefix("masks/"), Image.fromarray(np.dstack([pixels, alpha])).crop(box)


def _large_first(masks: Masks) -> list[tuple[Any, Any, float]]:
    return sorted(masks, key=lambda one: -int(one[0].sum()))


def _path(mask: Any) -> str:
    """The outlines of a mask as the path of an SVG."""
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in line.tolist()) + "Z" for line in outlines(mask))


def _milliseconds(began: float) -> float:
    return 1000 * (perf_counter() - began)


def add_segment(bench: Workbench, guard: Any) -> None:
    """Put the tab on the page that is being built."""
    import gradio as gr

    kept: Any = gr.State(None, time_to_live=3600)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            picture = guard(
                gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    label="Picture",
                    height=300,
                    buttons=[],
                )
            )
            scene = gr.Button("Another scene")
            phrases = gr.Textbox(label="Phrases, one a line", lines=5, max_lines=5, placeholder="red car\nwhite dog")
            boxes = gr.Textbox(
                label="Example boxes (optional)",
                info="Drag over the result, or write left, top, right, bottom; “not ” before what is not meant.",
                lines=2,
                max_lines=2,
                elem_id="boxes",
            )
            start = gr.Button("Segment", variant="primary")
        with gr.Column(scale=3, min_width=300):
            threshold = gr.Slider(LOWEST, 0.95, 0.5, step=0.01, label="Score threshold", buttons=[])
            mask_threshold = gr.Slider(0.05, 0.95, 0.5, step=0.01, label="Mask threshold", buttons=[])
            view = gr.HTML("<p>Upload a picture or draw a scene, then choose Segment.</p>", elem_id="found")
            export = gr.Button("Prepare downloads")
            files = gr.Files(label="Overlays, COCO JSON, ZIP with cut-outs", visible=False, interactive=False)
    shown: Any = {"kept": kept, "view": view, "files": files, "sliders": [threshold, mask_threshold]}
    _wire(bench, [picture, phrases, boxes], shown, (start, scene, export))


def _wire(bench: Workbench, asked: list[Any], shown: dict[str, Any], buttons: tuple[Any, Any, Any]) -> None:
    """What the buttons and sliders do, and the function of the API."""
    import gradio as gr

    kept, view, files, sliders = (shown[name] for name in ("kept", "view", "files", "sliders"))
    start, scene, export = buttons
    answer, overlays = gr.JSON(visible=False), gr.Files(visible=False)
    api = gr.Button(visible=False)

    def run(path: str | None, text: str, boxes: str, *shown_with: Any) -> Any:
        with messages():
            low, mask_low, kept = shown_with
            kept = ask(bench, path, text, boxes, kept)
            return kept, render(bench, kept, low, mask_low), gr.Files(visible=False)

    def slide(low: float, mask_low: float, kept: Kept | None) -> Any:
        with messages():
            return gr.skip() if kept is None else render(bench, kept, low, mask_low)

    def prepare(low: float, mask_low: float, kept: Kept | None) -> Any:
        with messages():
            return gr.Files(save(bench, kept, low, mask_low), visible=True)

    def segment(picture: str | None, phrases: str, boxes: str, threshold: float, mask_threshold: float) -> Any:
        """Find every instance of phrases (one a line) in a picture: COCO data and times by encoder, and files."""
        with messages():
            kept = ask(bench, picture, phrases, boxes)
            named = zip(bench.readers, kept.masks(threshold, mask_threshold), strict=True)
            found = {reader.name: json.loads(to_json(coco(kept, masks))) for reader, masks in named}
            return {"found": found, "milliseconds": kept.times}, save(bench, kept, threshold, mask_threshold)

    model: Any = {"concurrency_id": "model", "concurrency_limit": 1}
    hidden: Any = {"api_visibility": "private"}
    ran: Any = {"fn": run, "inputs": [*asked, *sliders, kept], "outputs": [kept, view, files], **model, **hidden}
    start.click(**ran)
    scene.click(lambda: (*draw_scene(bench), ""), None, asked, **hidden).then(**ran)
    for slider in sliders:
        slider.change(
            slide,
            [*sliders, kept],
            view,
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=4,
            **hidden,
        )
    export.click(prepare, [*sliders, kept], files, concurrency_limit=2, **hidden)
    api.click(segment, [*asked, *sliders], [answer, overlays], api_name="segment", **model)
