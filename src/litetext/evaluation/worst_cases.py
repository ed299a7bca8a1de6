"""Where teacher and student disagree most, to be looked at: pictures side by side, and a page that shows them."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from litetext.assignment import assign
from litetext.errors import OutputError, printable, shortened
from litetext.evaluation.comparison import Answers, ClipPair
from litetext.evaluation.veval import compare_masks
from litetext.evaluation.veval_files import Masklet
from litetext.pages import page_environment
from litetext.sam3.drawing import draw_masks, label_font
from litetext.sam3.images import read_image
from litetext.sam3.masks import Code, decode_masks
from litetext.storage import atomic_folder, check_output, to_json, write_text

PAGE, TABLE, PICTURES = "index.html", "retention.json", "disagreements"
_LEAST, _MOST = 320, 640  # pixels of the longer side of a picture, as drawn
_SMALL, _FRAMES = 160, 8  # of a frame in a strip, and how many there are
_GAP, _TEXT = 12, 15
_INK, _PAPER = (31, 41, 55), (255, 255, 255)
_QUALITY = 85
_LONGEST = 400  # characters of a line of text, before it is measured
_SATURATION = 0.4  # of the picture's colors, so that those of the masks stand out


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
        drawn = []
        for number, answers in enumerate(worst, start=1):
            picture = draw_strip(answers) if isinstance(answers.pair, ClipPair) else draw_answers(answers)
            (new / PICTURES).mkdir(exist_ok=True)
            picture.save(new / PICTURES / f"{number:02d}.png", "PNG")
            drawn.append(_inline(picture))
        write_text(new / TABLE, to_json(report) + "\n")
        template = page_environment("litetext.evaluation").get_template("retention.html")
        shown = list(zip(worst, drawn, strict=True))
        write_text(new / PAGE, printable(template.render(report=report, shown=shown)))
    return folder / PAGE


def draw_answers(answers: Answers) -> Image.Image:
    """The picture three times: with the masks of the (first) annotator, of the teacher and of the student.

    Small pictures are drawn larger and large ones smaller; masks are colored in their order.
    """
    picture = read_image(answers.pair.image)
    scale = min(max(1.0, _LEAST / max(picture.size)), _MOST / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    columns = {"ground truth": answers.pair.truths[0], "teacher": answers.teacher, "student": answers.student}
    panel = _soften(picture, size)
    font = label_font(_TEXT)
    line = 2 * _TEXT
    whole = Image.new("RGB", (3 * size[0] + 4 * _GAP, size[1] + 2 * line + _GAP), _PAPER)
    pen = ImageDraw.Draw(whole)
    heading = f'"{answers.pair.phrase}", agreement {answers.agreement:.2f}'
    pen.text((_GAP, _TEXT / 2), _fit(heading, font, whole.width - 2 * _GAP), fill=_INK, font=font)
    for number, (title, codes) in enumerate(columns.items()):
        left = _GAP + number * (size[0] + _GAP)
        pen.text((left, line + _TEXT / 2), _fit(f"{title}: {len(codes)}", font, size[0]), fill=_INK, font=font)
        whole.paste(_with_masks(panel, codes, picture), (left, 2 * line))
    return whole


def draw_strip(answers: Answers) -> Image.Image:
    """Frames of a clip, evenly apart, with the true masks, the teacher's and the student's below each other.

    A color stands for the same masklet in all of a row, and for a true one and that which is matched to it.
    """
    clip, font, line = answers.pair.clip, label_font(_TEXT), 2 * _TEXT
    frames = np.unique(np.linspace(0, clip.length - 1, _FRAMES).round().astype(int)).tolist()
    pictures = [Image.fromarray(clip.read(frame)) for frame in frames]
    scale = _SMALL / max(pictures[0].size)
    size = (max(1, round(pictures[0].width * scale)), max(1, round(pictures[0].height * scale)))
    truths = answers.pair.truths[0]
    rows = {"ground truth": truths, "teacher": answers.teacher, "student": answers.student}
    width = len(frames) * (size[0] + _GAP) + _GAP
    whole = Image.new("RGB", (width, line + len(rows) * (line + size[1]) + _GAP), _PAPER)
    pen = ImageDraw.Draw(whole)
    heading = f'"{answers.pair.phrase}", agreement {answers.agreement:.2f}, frames {", ".join(map(str, frames))}'
    pen.text((_GAP, _TEXT / 2), _fit(heading, font, width - 2 * _GAP), fill=_INK, font=font)
    for row, (title, masklets) in enumerate(rows.items()):
        top = line + row * (line + size[1])
        pen.text((_GAP, top + _TEXT / 2), f"{title}: {len(masklets)}", fill=_INK, font=font)
        ious = compare_masks(*([Masklet.of(one) for one in some] for some in (truths, masklets)))[0]
        colors = np.arange(len(truths), len(truths) + len(masklets))
        found, matched = assign(ious)
        colors[found] = matched
        for column, (frame, picture) in enumerate(zip(frames, pictures, strict=True)):
            codes = [one[frame] for one in masklets]
            panel = _with_masks(_soften(picture, size), codes, picture, colors.tolist())
            whole.paste(panel, (_GAP + column * (size[0] + _GAP), top + line))
    return whole


def _soften(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in a size, with fainter colors."""
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    return Image.blend(resized.convert("L").convert("RGB"), resized, _SATURATION)


def _with_masks(
    panel: Image.Image, codes: Sequence[Code | None], picture: Image.Image, colors: Sequence[int] | None = None
) -> Image.Image:
    """A panel with masks of the picture that it shows, colored by numbers or in their order."""
    masks = np.zeros((len(codes), panel.height, panel.width), dtype=np.bool_)
    for mask, code in zip(masks, codes, strict=True):
        if code is not None:
            (own,) = decode_masks([code], (picture.height, picture.width))
            mask[:] = np.asarray(Image.fromarray(own).resize(panel.size, Image.Resampling.NEAREST))
    return draw_masks(panel, masks, colors)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text on one line, or as much of it as the width holds."""
    text = printable(shortened(" ".join(text.split()), _LONGEST))
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _inline(picture: Image.Image) -> str:
    """A picture as an address that holds it, for a page that stands alone."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
