"""What stands beside the overlays of `litetext segment`: a contact sheet with thumbnails, mask PNGs, a YOLO data set.

All of it follows from images and finished records, so that a run which resumes makes what is missing, to the same
bytes.
"""

import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from litetext.storage import atomic_file, write_text

PAGE, DATA = "index.html", "yolo/data.yaml"
THUMBNAILS, MASKS, LABELS, PICTURES = "thumbnails", "masks", "yolo/labels", "yolo/images"
OF_PICTURES = (THUMBNAILS, MASKS, PICTURES)  # which are not to be segmented
MARK = "litetext segment"  # in the first kilobyte of PAGE and DATA: they are ours
_HEAD = 1024
_SIDE, _QUALITY = 480, 85  # of a thumbnail
_YOLO_READS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_TOLERANCE = 0.5  # pixels that a polygon may be away from the edge of its mask

Points = npt.NDArray[np.float64]  # [P, 2], x and y in pixels


def check_found(folder: Path, overlays: Iterable[str], hint: str) -> None:
    """Refuse to replace what is not ours: an `OutputError`. ``overlays`` are those of images without a record."""
    for path in (folder / PAGE, folder / DATA, *(place for name in overlays for place in _places(folder, name))):
        if path.exists() and (path.is_dir() or MARK.encode() not in path.read_bytes()[:_HEAD]):
            raise OutputError("it would be replaced, and is not ours", where=str(path), hint=hint)


def remove_found(folder: Path, overlay: str) -> None:
    """Remove what an earlier run made for the image whose overlay has that name."""
    for path in _places(folder, overlay):
        for file in path.glob("*.png") if path.is_dir() else [path]:
            file.unlink(missing_ok=True)


def write_found(
    folder: Path, record: Mapping[str, Any], phrases: Sequence[str], kinds: Collection[str], picture: Image.Image | None
) -> None:
    """Write what is missing of an image: its thumbnail, and its part of the other kinds of files: masks, yolo.

    The picture is read where it is needed and not given.
    """
    source, stem = Path(record["file_name"]), PurePath(record["overlay"]).stem
    listed, size = record["annotations"], (record["height"], record["width"])
    thumbnail, label = folder / THUMBNAILS / f"{stem}.jpg", folder / LABELS / f"{stem}.txt"
    if not thumbnail.exists():
        with atomic_file(thumbnail) as file:
            _draw_thumbnail(record, picture or read_image(source)).save(file, "JPEG", quality=_QUALITY)
    for name, one in zip(mask_names(record, phrases), listed, strict=True) if "masks" in kinds else ():
        if not (folder / name).exists():
            (mask,) = decode_masks([one["segmentation"]], size)
            with atomic_file(folder / name) as file:
                Image.fromarray(mask).convert("L").save(file, "PNG")
    if "yolo" not in kinds:
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
        codes = ((one["category_id"] - 1, decode_masks([one["segmentation"]], size)[0]) for one in listed)
        write_text(label, "".join(_yolo_row(number, mask) for number, mask in codes))


def write_page(folder: Path, data: Mapping[str, Any], kinds: Collection[str]) -> None:
    """Write the contact sheet of a COCO data set of `SegmentRun`, and the names of YOLO's classes."""
    if "yolo" in kinds:
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
    template = page_environment("litetext.sam3", dated=False).get_template("sheet.html")
    html = template.render(
        cards=cards,
        phrases={category["id"]: category["name"] for category in data["categories"]},
        masks=masks.most_common(),
        missing=[category["name"] for category in data["categories"] if category["id"] not in masks],
        colors=["#{:02x}{:02x}{:02x}".format(*color) for color in palette()],
        made_by={name: value for name, value in data["info"][MARK].items() if name != "phrases"},
        failures=data["failures"],
        mark=MARK,
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
    lines = outlines(mask)
    return np.concatenate([part for line in lines for part in (line, lines[0][:1])]) if lines else np.empty((0, 2))


def outlines(mask: npt.NDArray[np.bool_]) -> list[Points]:
    """The closed lines around all parts and holes of a mask bool [H, W], each float64 [P, 2], to half a pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    cut, corner = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], columns[0] + 1j * rows[0]
    moved = (_simplified(ring) + corner for ring in _rings(cut))
    return [np.stack([line.real, line.imag], axis=1) for line in moved]


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


def _rings(mask: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.complex128]]:
    """Closed lines [P] through the middles of all edges between a pixel of a mask and one that is not, as x + iy."""
    following = defaultdict[complex, list[complex]](list)  # corner -> corners, with the mask on the right
    for axis, step in ((0, 1), (1, 1j)):
        change = np.diff(mask.astype(np.int8), axis=axis, prepend=0, append=0)
        rows, columns = np.nonzero(change)
        one = columns + 1j * rows
        is_forward = (change[rows, columns] > 0) == (axis == 0)
        ends = np.where(is_forward, one, one + step), np.where(is_forward, one + step, one)
        for start, end in zip(*(corners.tolist() for corners in ends), strict=True):
            following[start].append(end)
    while following:
        ring = [next(iter(following))]
        while ring[-1] in following:
            ahead = following[ring[-1]]
            if len(ahead) == 1:
                del following[ring[-1]]
            ring.append(ahead.pop())
        middles = (np.array(ring[1:]) + np.array(ring[:-1])) / 2
        yield np.append(middles, middles[0])


def _simplified(ring: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """The points of a closed line without which it would go wrong by more than the tolerance (Douglas and Peucker)."""
    far = int(np.argmax(np.abs(ring - ring[0])))
    kept, parts = {0, far, len(ring) - 1}, [(0, far), (far, len(ring) - 1)]
    while parts:
        first, last = parts.pop()
        chord, offsets = ring[last] - ring[first], ring[first + 1 : last] - ring[first]
        distances = np.abs((offsets * np.conj(chord)).imag) / max(abs(chord), 1e-9)
        if len(distances) and distances.max() > _TOLERANCE:
            worst = first + 1 + int(distances.argmax())
            kept.add(worst)
            parts += [(first, worst), (worst, last)]
    return ring[sorted(kept)]
