"""What stands beside the overlays of `litetext segment`: a contact sheet with thumbnails, mask PNGs, a YOLO data set.

All of it follows from images and finished records, so that a run which resumes makes what is missing, to the same
bytes.
"""

import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from litetext.errors import OutputError, printable
from litetext.sam3.drawing import draw_masks, palette
from litetext.sam3.images import read_image
from litetext.sam3.masks import decode_masks
from litetext.storage import atomic_file, check_output, write_text

PAGE, DATA = "index.html", "yolo/data.yaml"
THUMBNAILS, MASKS, LABELS, PICTURES = "thumbnails", "masks", "yolo/labels", "yolo/images"
MARK = "litetext segment"  # in the first kilobyte of PAGE and DATA: they are ours
_HEAD = 1024
_SIDE, _QUALITY = 480, 85  # of a thumbnail
_YOLO_READS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_TOLERANCE = 0.5  # pixels that a polygon may be away from the edge of its mask

Points = npt.NDArray[np.float64]  # [P, 2], x and y in pixels


def check_found(folder: Path, overlays: Iterable[str], hint: str) -> None:
    """Refuse to replace what is not ours: an `OutputError`. ``overlays`` are those of images without a record."""
    for path in (folder / PAGE, folder / DATA):
        check_output(path)
        if path.exists() and MARK.encode() not in path.read_bytes()[:_HEAD]:
            raise OutputError("a file would be replaced", where=str(path), hint=hint)
    for path in (path for overlay in overlays for path in _places(folder, overlay)):
        if path.exists():
            raise OutputError("a file would be replaced", where=str(path), hint=hint)


def remove_found(folder: Path, overlay: str) -> None:
    """Remove what an earlier run made for the image whose overlay has that name."""
    for path in _places(folder, overlay):
        for file in path.glob("*.png") if path.is_dir() else [path]:
            file.unlink(missing_ok=True)


def write_found(
    folder: Path,
    record: Mapping[str, Any],
    phrases: Sequence[str],
    picture: Image.Image | None = None,
    *,
    masks: bool = False,
    yolo: bool = False,
) -> None:
    """Write what is missing of an image: its thumbnail and, as asked, its masks and its part of the YOLO data set.

    The picture is read where it is needed and not given.
    """
    source, stem = Path(record["file_name"]), PurePath(record["overlay"]).stem
    codes, size = [one["segmentation"] for one in record["annotations"]], (record["height"], record["width"])
    thumbnail, label = folder / THUMBNAILS / f"{stem}.jpg", folder / LABELS / f"{stem}.txt"
    if not thumbnail.exists():
        with atomic_file(thumbnail) as file:
            _draw_thumbnail(record, picture or read_image(source)).save(file, "JPEG", quality=_QUALITY)
    for name, code in zip(mask_names(record, phrases), codes, strict=True) if masks else ():
        if not (folder / name).exists():
            with atomic_file(folder / name) as file:
                Image.fromarray(decode_masks([code], size)[0].astype(np.uint8) * np.uint8(255)).save(file, "PNG")
    if not yolo:
        return
    copied = source.suffix.lower() in _YOLO_READS
    image = folder / PICTURES / f"{stem}{source.suffix.lower() if copied else '.png'}"
    if not image.exists():
        with atomic_file(image) as file:
            if copied:
                with source.open("rb") as original:
                    shutil.copyfileobj(original, file)
            else:
                (picture or read_image(source)).save(file, "PNG")
    if not label.exists():
        rows = (
            _yolo_row(one["category_id"] - 1, decode_masks([one["segmentation"]], size)[0])
            for one in record["annotations"]
        )
        write_text(label, "".join(rows))


def write_page(folder: Path, data: Mapping[str, Any], *, yolo: bool = False) -> None:
    """Write the contact sheet of a COCO data set of `SegmentRun`, and the names of YOLO's classes."""
    if yolo:
        names = [json.dumps(category["name"], ensure_ascii=False) for category in data["categories"]]
        listed = "".join(f"  {number}: {printable(name)}\n" for number, name in enumerate(names))
        write_text(folder / DATA, f"# {MARK}\ntrain: images\nval: images\nnames:\n{listed}")
    from litetext.pages import page_environment  # Jinja takes a tenth of the time of a first mask

    by_image = defaultdict[int, list[Mapping[str, Any]]](list)
    for one in data["annotations"]:
        by_image[one["image_id"]].append(one)
    cards = []
    for image in data["images"]:
        scores = defaultdict[int, list[float]](list)
        for one in by_image[image["id"]]:
            scores[one["category_id"]].append(one["score"])
        cards.append((image, scores, _urls(image["overlay"])))
    masks = Counter(one["category_id"] for one in data["annotations"])
    html = (
        page_environment("litetext.sam3", dated=False)
        .get_template("sheet.html")
        .render(
            cards=cards,
            phrases={category["id"]: category["name"] for category in data["categories"]},
            masks=masks.most_common(),
            missing=[category["name"] for category in data["categories"] if category["id"] not in masks],
            colors=["#{:02x}{:02x}{:02x}".format(*color) for color in palette()],
            made_by={name: value for name, value in data["info"][MARK].items() if name != "phrases"},
            failures=data["failures"],
            mark=MARK,
        )
    )
    write_text(folder / PAGE, printable(html))


def mask_names(record: Mapping[str, Any], phrases: Sequence[str]) -> list[str]:
    """The name of the PNG of each mask: ``masks/IMAGE/PHRASE-N.png``, N counts them from the best on."""
    counts: Counter[str] = Counter()
    names = []
    for annotation in record["annotations"]:
        phrase = re.sub(r"\W+", "-", phrases[annotation["category_id"] - 1].lower())[:60].strip("-") or "phrase"
        counts[phrase] += 1
        names.append(f"{MASKS}/{PurePath(record['overlay']).stem}/{phrase}-{counts[phrase]}.png")
    return names


def outline(mask: npt.NDArray[np.bool_]) -> Points:
    """A closed line around a mask bool [H, W], float64 [P, 2], to half a pixel; no points of an empty mask.

    Parts and holes are joined to the first part by lines that go there and back: filled by the even-odd rule, as YOLO's
    training and most programs do, the line gives the mask.
    """
    rings = [_simplified(ring) for ring in _rings(mask)]
    first = [ring[:1] for ring in rings[:1]]
    return np.concatenate([part for ring in rings for part in (ring, *first)]) if rings else np.empty((0, 2))


def _places(folder: Path, overlay: str) -> list[Path]:
    """What may stand in the folder for an image: files, and the folder of its masks."""
    stem = PurePath(overlay).stem
    pictures = (folder / PICTURES / f"{stem}{suffix}" for suffix in _YOLO_READS)
    return [folder / THUMBNAILS / f"{stem}.jpg", folder / MASKS / stem, folder / LABELS / f"{stem}.txt", *pictures]


def _urls(overlay: str) -> tuple[str, str]:
    """The addresses of an overlay and its thumbnail, from the page."""
    return quote(os.fsencode(overlay)), quote(os.fsencode(f"{THUMBNAILS}/{PurePath(overlay).stem}.jpg"))


def _draw_thumbnail(record: Mapping[str, Any], picture: Image.Image) -> Image.Image:
    """The picture in a small size with its masks, in the colors of their phrases; the page says their names."""
    scale = min(1.0, _SIDE / max(picture.size))
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    masks = []
    for annotation in record["annotations"]:
        (whole,) = decode_masks([annotation["segmentation"]], (picture.height, picture.width))
        masks.append(np.asarray(Image.fromarray(whole).resize(small.size, Image.Resampling.NEAREST)))
    return draw_masks(small, masks, [annotation["category_id"] - 1 for annotation in record["annotations"]])


def _yolo_row(number: int, mask: npt.NDArray[np.bool_]) -> str:
    """A line of YOLO's segmentation labels: the class, then x and y as shares of the image; "" for an empty mask."""
    points = outline(mask) / (mask.shape[1], mask.shape[0])
    return f"{number} {' '.join(f'{value:.6g}' for value in points.ravel())}\n" if len(points) else ""


def _rings(mask: npt.NDArray[np.bool_]) -> Iterator[Points]:
    """Closed lines [P, 2] through the middles of all edges between a pixel of a mask and one that is not."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return
    corner_of_all = (columns[0], rows[0])
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.int8)
    below, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    across, along = np.argwhere(below)[:, ::-1], np.argwhere(right)[:, ::-1]
    # With the mask on the right: to the right above it, to the left below it, up on its left, down on its right.
    is_above, is_left = below[across[:, 1], across[:, 0]] > 0, right[along[:, 1], along[:, 0]] > 0
    starts = np.concatenate([across + np.outer(~is_above, (1, 0)), along + np.outer(is_left, (0, 1))])
    ends = np.concatenate([across + np.outer(is_above, (1, 0)), along + np.outer(~is_left, (0, 1))])
    next_corners = defaultdict[tuple[int, int], list[tuple[int, int]]](list)
    for start, end in zip(map(tuple, starts.tolist()), map(tuple, ends.tolist()), strict=True):
        next_corners[start].append(end)
    while next_corners:
        corner, ring = next(iter(next_corners)), []
        while corner in next_corners:
            ring.append(corner)
            following = next_corners[corner].pop()
            if not next_corners[corner]:
                del next_corners[corner]
            corner = following
        corners = np.array(ring, dtype=np.float64) + corner_of_all
        middles = (corners + np.roll(corners, -1, axis=0)) / 2
        yield np.concatenate([middles, middles[:1]])


def _simplified(ring: Points) -> Points:
    """The points of a closed line without which it would go wrong by more than the tolerance (Douglas and Peucker)."""
    kept = np.zeros(len(ring), dtype=np.bool_)
    far = int(np.argmax(np.hypot(*(ring - ring[0]).T)))
    kept[[0, far, -1]] = True
    parts = [(0, far), (far, len(ring) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        chord, offsets = ring[last] - ring[first], ring[first + 1 : last] - ring[first]
        distances = np.abs(chord[0] * offsets[:, 1] - chord[1] * offsets[:, 0]) / max(float(np.hypot(*chord)), 1e-9)
        worst = first + 1 + int(np.argmax(distances))
        if distances[worst - first - 1] > _TOLERANCE:
            kept[worst] = True
            parts += [(first, worst), (worst, last)]
    return ring[kept]
