"""A world on disk, in the formats of SA-Co Gold and VEval: the official evaluators read it as they read those."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from litetext.errors import OptionError
from litetext.micro.phrases import Pair
from litetext.micro.scenes import Instance
from litetext.sam3.masks import encode_masks
from litetext.storage import atomic_file, to_json, write_text
from litetext.video.masklets import Masklet, to_annotation

if TYPE_CHECKING:
    from litetext.evaluation.labeled_pairs import LabeledClip

ANNOTATIONS = "gold.json"
IMAGES = "images"
CLIPS, VIDEOS = "veval.json", "videos"
WORLD = "LiteText micro world"
_INFO = {"description": f"{WORLD}: glyphs of Noto Color Emoji (OFL-1.1) on small backgrounds"}
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
            save_png(pair.scene.pixels, folder / IMAGES / _file_name(pair))
            written = pair.picture
        entries.append(pair_entry(pair, number))
        for index in pair.phrase.indices:
            annotations.append(annotation(pair.scene.instances[index], number, len(annotations) + 1))
    if not entries:
        raise OptionError("a world without pairs", hint="ask for 1 or more")
    gold = {
        "info": _INFO,
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    write_text(folder / ANNOTATIONS, to_json(gold))
    return gold


def write_clips(clips: Iterable["LabeledClip"], folder: Path) -> dict[str, Any]:
    """Write the frames to ``videos/NAME/00000.png`` and the rest to ``veval.json``, written last, and returned.

    The same phrase is the same category in all clips; a masklet has no entry where its phrase is not true.
    """
    categories: dict[str, int] = {}
    videos, annotations, pairs = list[Any](), list[Any](), list[Any]()
    for number, clip in enumerate(clips, start=1):
        names = [f"{clip.name}/{index:05d}.png" for index in range(clip.length)]
        for index, name in enumerate(names):
            save_png(clip.read(index), folder / VIDEOS / name)
        size = dict(zip(("height", "width"), clip.read(0).shape, strict=False))
        videos.append({"id": number, "video_name": clip.name, "file_names": names, **size, "length": len(names)})
        for category, phrase in clip.phrases.items():
            own: dict[str, Any] = {
                "video_id": number,
                "category_id": categories.setdefault(phrase, len(categories) + 1),
            }
            own["noun_phrase"] = phrase
            pairs.append({"id": len(pairs) + 1, **own, "num_masklets": len(clip.truths[category])})
            for truth in clip.truths[category]:
                masks = to_annotation(Masklet(0, phrase, 1.0, truth.codes))
                del masks["score"]
                annotations.append({"id": len(annotations) + 1, **own, "iscrowd": 0, **size, **masks})
    if not videos:
        raise OptionError("a world without clips", hint="ask for 1 or more")
    named = [{"id": number, "name": phrase} for phrase, number in categories.items()]
    lists = {"videos": videos, "annotations": annotations, "categories": named, "video_np_pairs": pairs}
    document = {"info": _INFO, **lists}
    write_text(folder / CLIPS, to_json(document))
    return document


def is_world(folder: Path, annotations: str = ANNOTATIONS, pictures: str = IMAGES) -> bool:
    """Whether a folder holds what `write_saco` wrote, or with other names `write_clips`, and nothing else."""
    if {path.name for path in folder.iterdir()} != {annotations, pictures}:
        return False
    with (folder / annotations).open(encoding="utf-8", errors="replace") as file:
        return WORLD in file.read(_HEAD)


def save_png(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    """Write a picture as PNG."""
    with atomic_file(path) as file:
        Image.fromarray(pixels).save(file, "PNG")


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
