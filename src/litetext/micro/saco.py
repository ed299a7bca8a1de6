"""A world on disk, in the format of SA-Co Gold: the official evaluator reads it as it reads Gold."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from litetext.errors import OptionError
from litetext.micro.phrases import Pair
from litetext.micro.scenes import Instance
from litetext.sam3.masks import encode_masks
from litetext.storage import atomic_file, to_json, write_text

ANNOTATIONS = "gold.json"
IMAGES = "images"
WORLD = "LiteText micro world"
_HEAD = 1024  # characters of the file that say what it is


def write_saco(pairs: Iterable[Pair], folder: Path) -> dict[str, Any]:
    """Write the pictures to ``images/`` and the pairs to ``gold.json``, written last; what is in it is returned.

    The pairs of a picture come one after another. An entry of "images" is a pair, not a picture: its id is what
    annotations and predictions refer to. `kind` and `is_held_out` are ours; the evaluator does not look at them.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    written = -1
    for number, pair in enumerate(pairs, start=1):
        if pair.picture != written:
            save_png(pair, folder / IMAGES / _file_name(pair))
            written = pair.picture
        entries.append(pair_entry(pair, number))
        for index in pair.phrase.indices:
            annotations.append(annotation(pair.scene.instances[index], number, len(annotations) + 1))
    if not entries:
        raise OptionError("a world without pairs", hint="ask for 1 or more")
    gold = {
        "info": {"description": f"{WORLD}: glyphs of Noto Color Emoji (OFL-1.1) on small backgrounds"},
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    write_text(folder / ANNOTATIONS, to_json(gold))
    return gold


def is_world(folder: Path) -> bool:
    """Whether a folder holds what `write_saco` wrote, and nothing else."""
    if {path.name for path in folder.iterdir()} != {ANNOTATIONS, IMAGES}:
        return False
    with (folder / ANNOTATIONS).open(encoding="utf-8", errors="replace") as file:
        return WORLD in file.read(_HEAD)


def save_png(pair: Pair, path: Path) -> None:
    """Write the picture of a pair as PNG."""
    with atomic_file(path) as file:
        Image.fromarray(pair.scene.pixels).save(file, "PNG")


def pair_entry(pair: Pair, number: int) -> dict[str, Any]:
    """A pair as an "image" of Gold."""
    height, width = pair.scene.pixels.shape[:2]
    return {
        "id": number,
        "file_name": f"{IMAGES}/{_file_name(pair)}",
        "width": width,
        "height": height,
        "text_input": pair.phrase.text,
        "is_instance_exhaustive": 1,
        "is_pixel_exhaustive": 1,
        "kind": pair.phrase.kind,
        "is_held_out": pair.phrase.held_out,
    }


def annotation(instance: Instance, image_id: int, number: int) -> dict[str, Any]:
    """An instance as an annotation of Gold: box (x, y, width, height) and area as shares of the picture."""
    height, width = instance.mask.shape
    left, top, right, bottom = instance.box
    (code,) = encode_masks(instance.mask[None])
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
        "bbox": [left / width, top / height, (right - left) / width, (bottom - top) / height],
        "area": int(instance.mask.sum()) / (height * width),
        "iscrowd": 0,
    }


def _file_name(pair: Pair) -> str:
    return f"{pair.picture:06d}.png"
