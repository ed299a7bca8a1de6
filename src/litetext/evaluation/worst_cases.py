"""Where teacher and student disagree most, to be looked at: pictures side by side, and a page that shows them."""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from litetext.assignment import assign
from litetext.auditing.figures import draw_sizes
from litetext.errors import OutputError, printable
from litetext.evaluation.comparison import Answers, ClipPair
from litetext.evaluation.veval import compare_masks
from litetext.evaluation.veval_files import Masklet
from litetext.pages import page_environment
from litetext.sam3.drawing import draw_masks
from litetext.sam3.images import read_image
from litetext.sam3.masks import Code, decode_masks, mask_ious
from litetext.storage import atomic_folder, check_output, to_json, write_text

PAGE, TABLE, PICTURES = "index.html", "retention.json", "disagreements"
_LEAST, _MOST = 320, 640  # pixels of the longer side of a picture, as drawn
_SMALL, _FRAMES, _COLUMNS = 160, 8, 4  # of a frame of a clip, how many there are, and how many in a row
_GAP = 8
_QUALITY = 85
_SATURATION = 0.4  # of the picture's colors, so that those of the masks stand out

_SCORES = {
    "cgf1": ("cgF1", "{:.2f}"),
    "il_mcc": ("IL_MCC", "{:.4f}"),
    "pmf1": ("pmF1", "{:.2f}"),
    "phota": ("pHOTA", "{:.2f}"),
    "deta": ("DetA", "{:.2f}"),
    "assa": ("AssA", "{:.2f}"),
}


def check_page(folder: Path) -> None:
    """Refuse a place for the page before the work that would be lost."""
    check_output(folder, folder=True)
    hint = "give a folder of its own"
    if Path.cwd().is_relative_to(folder.resolve()):
        raise OutputError("the working folder, or one above it, cannot be replaced", where=str(folder), hint=hint)
    if folder.exists() and not is_page(folder):
        raise OutputError("something else is there", where=str(folder), hint=hint)


def is_page(folder: Path) -> bool:
    """Whether a folder is empty, or has what `write_retention` writes and nothing else."""
    names = {path.name for path in folder.iterdir()}
    pictures = (folder / PICTURES).iterdir() if PICTURES in names else ()
    ours = names <= {PAGE, TABLE, PICTURES} and all(re.fullmatch(r"\d+\.png", path.name) for path in pictures)
    return ours and (not names or {PAGE, TABLE} <= names)


def write_retention(report: Mapping[str, Any], worst: Sequence[Answers], folder: Path) -> Path:
    """Write ``disagreements/*.png``, ``retention.json`` and ``index.html``, and return the page's path.

    They take the place of those of an earlier report in one step; an `OutputError` if something else is in the folder.
    The report is that of `report_retention`, of the same comparison.
    """
    check_page(folder)
    with atomic_folder(folder, is_ours=is_page) as new:
        shown = []
        for number, answers in enumerate(worst, start=1):
            panels = draw_panels(answers)
            (new / PICTURES).mkdir(exist_ok=True)
            _tile(list(panels.values()), len(panels)).save(new / PICTURES / f"{number:02d}.png", "PNG")
            counts = map(len, (answers.pair.truths[0], answers.teacher, answers.student))
            shown.append((answers, [(name, _inline(one), next(counts)) for name, one in panels.items()]))
        write_text(new / TABLE, to_json(report) + "\n")
        both = [report[name] for name in ("teacher", "student")]
        html = (
            page_environment("litetext.evaluation")
            .get_template("retention.html")
            .render(
                report=report,
                shown=shown,
                verdict=verdict(report),
                rows=_score_rows(report),
                sizes=draw_sizes([(one["name"], one["bytes"], one["cgf1"]) for one in both]),
            )
        )
        write_text(new / PAGE, printable(html))
    return folder / PAGE


def verdict(report: Mapping[str, Any]) -> str:
    """The whole report in a sentence."""
    kept, fewer = report["retention"], report["parameters"]["reduction"]
    size = f"{abs(fewer):.1f} % {'fewer' if fewer >= 0 else 'more'} parameters in the text encoder"
    if kept is None:
        return f"The student has {size}; what it keeps is undefined: the teacher's cgF1 is not above 0 on these pairs."
    ends = (
        kept["interval"]
        and f" ({100 * report['level']:g} % interval {kept['interval'][0]:.1f} to {kept['interval'][1]:.1f})"
    )
    return f"The student keeps {kept['cgf1']:.1f} % of the teacher's cgF1{ends or ''} with {size}."


def _score_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """For each score and size its name, that of teacher and student, and what is kept."""
    kept, rows = report["retention"] or {}, []
    for name, (label, form) in _SCORES.items():
        if name in report["teacher"]:
            share = kept.get(name)
            both = [form.format(report[one][name]) for one in ("teacher", "student")]
            rows.append([label, *both, "undefined" if share is None else f"{share:.1f} %"])
    for name, unit in (("parameters", "M"), ("bytes", "MB")):
        size = report[name]
        both = [f"{size[one] / 1e6:,.2f} {unit}" for one in ("teacher", "student")]
        rows.append([name, *both, f"{100 - size['reduction']:.1f} %"])
    return rows


def draw_panels(answers: Answers) -> dict[str, Image.Image]:
    """The picture, or frames of the clip, with the masks of the (first) annotator, the teacher and the student.

    Small pictures are drawn larger and large ones smaller, frames evenly apart. A color stands for the same thing in
    all three: that of the true mask or masklet to which one is matched.
    """
    pair, truths = answers.pair, answers.pair.truths[0]
    is_clip = isinstance(pair, ClipPair)
    frames = np.unique(np.linspace(0, pair.clip.length - 1, _FRAMES).round().astype(int)).tolist() if is_clip else []
    pictures = [Image.fromarray(pair.clip.read(frame)) for frame in frames] if is_clip else [read_image(pair.image)]
    least, most = (_SMALL, _SMALL) if is_clip else (_LEAST, _MOST)
    scale = min(max(1.0, least / max(pictures[0].size)), most / max(pictures[0].size))
    size = (max(1, round(pictures[0].width * scale)), max(1, round(pictures[0].height * scale)))
    panels = {}
    for name, found in (("ground truth", truths), ("teacher", answers.teacher), ("student", answers.student)):
        if is_clip:
            ious = compare_masks(*([Masklet.of(one) for one in some] for some in (truths, found)))[0]
            rows = [[one[frame] for one in found] for frame in frames]
        else:
            ious, rows = mask_ious(found, truths), [list(found)]
        colors = np.arange(len(truths), len(truths) + len(found))
        matched, true = assign(ious)
        colors[matched] = true
        drawn = [_with_masks(picture, size, codes, colors) for picture, codes in zip(pictures, rows, strict=True)]
        panels[name] = _tile(drawn, _COLUMNS)
    return panels


def _with_masks(
    picture: Image.Image, size: tuple[int, int], codes: Sequence[Code | None], colors: Iterable[int]
) -> Image.Image:
    """The picture in a size, in fainter colors, with masks colored by numbers."""
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    panel = Image.blend(resized.convert("L").convert("RGB"), resized, _SATURATION)
    masks = np.zeros((len(codes), panel.height, panel.width), dtype=np.bool_)
    for mask, code in zip(masks, codes, strict=True):
        if code is not None:
            (own,) = decode_masks([code], (picture.height, picture.width))
            mask[:] = np.asarray(Image.fromarray(own).resize(panel.size, Image.Resampling.NEAREST))
    return draw_masks(panel, list(masks), list(colors))


def _tile(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows, nothing between them."""
    width, height = pictures[0].size
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGBA", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP))
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number % columns * (width + _GAP), number // columns * (height + _GAP)))
    return whole


def _inline(picture: Image.Image) -> str:
    """A picture as an address that holds it, for a page that stands alone."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
