"""Segment files: overlays and COCO annotations of many images, of which a bad one does not stop the rest."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.errors import ImageError
from litetext.sam3.images import read_image
from litetext.sam3.masks import Masks, draw_all
from litetext.sam3.segmenter import Segmenter, check_prompts
from litetext.storage import atomic_file, to_json, write_text

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Failure:
    """An image that could not be segmented, and why."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False)
class SegmentReport:
    """What was found in many images, as COCO data.

    Attributes:
        images: ``id``, ``file_name``, ``width``, ``height`` of each image that was read.
        categories: ``id``, ``name`` of each phrase.
        annotations: instances, as `Masks.to_coco` makes them, with an ``id``.
        failures: images that could not be read.
    """

    images: tuple[dict[str, Any], ...]
    categories: tuple[dict[str, Any], ...]
    annotations: tuple[dict[str, Any], ...]
    failures: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        """A COCO data set, with the failures beside it."""
        return {
            "images": list(self.images),
            "categories": list(self.categories),
            "annotations": list(self.annotations),
            "failures": [{"file": failure.file, "reason": failure.reason} for failure in self.failures],
        }

    def check(self) -> None:
        """Name the images that failed.

        Raises:
            ImageError: there are any.
        """
        if self.failures:
            count = len(self.images) + len(self.failures)
            told = " | ".join(failure.reason for failure in self.failures)
            raise ImageError(f"{len(self.failures)} of {count} images were not segmented: {told}")


def segment_files(
    segmenter: Segmenter,
    files: Sequence[Path],
    prompts: Sequence[str],
    output: Path | None = None,
    progress: Progress = lambda _stage, _share: None,
) -> SegmentReport:
    """Segment image files one after another.

    Args:
        segmenter: finds the instances.
        files: images.
        prompts: phrases; each becomes a category, repeated ones become one.
        output: a folder for ``NAME.png`` (the image with its masks) of each image and ``annotations.json``.
        progress: called with the stage and the share done, 0..1.

    Raises:
        OptionError: no or empty phrases.
        EncoderError: the encoder fails.
        OSError: the folder cannot be written.
    """
    check_prompts(prompts)
    phrases = list(dict.fromkeys(prompts))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    failures: list[Failure] = []
    names = overlay_names(files)
    for done, file in enumerate(files):
        progress("segmenting", done / len(files))
        try:
            picture = read_image(file)
        except ImageError as error:
            failures.append(Failure(str(file), str(error)))
            continue
        results = segmenter.segment(picture, phrases)
        image_id = len(images) + 1
        images.append({"id": image_id, "file_name": str(file), "width": picture.width, "height": picture.height})
        for category_id, masks in enumerate(results, 1):
            annotations += masks.to_coco(image_id, category_id)
        if output is not None:
            _write_overlay(output / names[file], picture, results)
    progress("segmenting", 1.0)
    report = SegmentReport(
        images=tuple(images),
        categories=tuple({"id": number, "name": phrase} for number, phrase in enumerate(phrases, 1)),
        annotations=tuple({"id": number, **one} for number, one in enumerate(annotations, 1)),
        failures=tuple(failures),
    )
    if output is not None:
        write_text(output / "annotations.json", to_json(report.to_json()))
    return report


def overlay_names(files: Iterable[Path]) -> dict[Path, str]:
    """A name of its own for the overlay of each file: its stem, numbered where another file has it too."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        number, name = 1, f"{file.stem}.png"
        # Compared without case: some file systems do.
        while name.lower() in taken:
            number += 1
            name = f"{file.stem}-{number}.png"
        taken.add(name.lower())
        names[file] = name
    return names


def print_report(report: SegmentReport) -> None:
    """A table on standard output: a line for each image and phrase, with the number of instances and the best score.

    Nothing where no image was read.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not report.images:
        return
    table = Table("image", "phrase", "masks", "best score")
    for column in table.columns[:2]:
        column.overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    counts: Counter[tuple[int, int]] = Counter()
    best: dict[tuple[int, int], float] = {}
    for one in report.annotations:
        key = (one["image_id"], one["category_id"])
        counts[key] += 1
        best[key] = max(best.get(key, 0.0), one["score"])
    for image in report.images:
        for category in report.categories:
            key = (image["id"], category["id"])
            score = f"{best[key]:.2f}" if key in best else "-"
            table.add_row(Text(image["file_name"]), Text(category["name"]), str(counts[key]), score)
    Console().print(table)


def _write_overlay(path: Path, picture: Any, results: Sequence[Masks]) -> None:
    with atomic_file(path) as file:
        draw_all(picture, results).save(file, "PNG")
