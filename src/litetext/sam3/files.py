"""Segment files: overlays and COCO annotations of many images, of which a bad one does not stop the rest."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from litetext.errors import ImageError, printable, shortened
from litetext.sam3.images import read_image
from litetext.sam3.journal import TOOL, Record, SegmentFolder
from litetext.sam3.masks import Masks, draw_all
from litetext.sam3.segmenter import Segmenter, check_prompts
from litetext.storage import atomic_file

Progress = Callable[[str, float], None]
_LONGEST_STEM = 200  # bytes; a name of 255 must hold a number, ".png" and what a file is called while it is written


@dataclass(frozen=True)
class Failure:
    """An image that could not be segmented, and why."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False)
class SegmentReport:
    """What was found in many images, as COCO data.

    Attributes:
        images: ``id``, ``file_name``, ``width``, ``height`` of each image that was read; where overlays are written
            also ``overlay``, and the ``blake2b`` checksum of name and content.
        categories: ``id``, ``name`` of each phrase.
        annotations: instances, as `Masks.to_coco` makes them, with an ``id``.
        failures: images that could not be read.
        run: what the results depend on, name by name.
        resumed: how many of the images an earlier run had finished.
    """

    images: tuple[dict[str, Any], ...]
    categories: tuple[dict[str, Any], ...]
    annotations: tuple[dict[str, Any], ...]
    failures: tuple[Failure, ...]
    run: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0

    @classmethod
    def of(
        cls, records: Iterable[Record], phrases: Iterable[str], failures: Iterable[Failure], run: Mapping[str, Any]
    ) -> "SegmentReport":
        """Number the images and annotations of finished images."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, record in enumerate(records, 1):
            images.append({"id": number, **{name: record[name] for name in record if name != "annotations"}})
            found = enumerate(record["annotations"], len(annotations) + 1)
            annotations += [{"id": one_id, "image_id": number, **one} for one_id, one in found]
        categories = tuple({"id": number, "name": phrase} for number, phrase in enumerate(phrases, 1))
        return cls(tuple(images), categories, tuple(annotations), tuple(failures), run)

    def to_json(self) -> dict[str, Any]:
        """A COCO data set, with the failures beside it."""
        return {
            "info": {"description": "masks of phrases in images", TOOL: dict(self.run)},
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
    prompts: Iterable[str],
    output: Path | None = None,
    progress: Progress = lambda _stage, _share: None,
) -> SegmentReport:
    """Segment image files one after another.

    Args:
        segmenter: finds the instances.
        files: images.
        prompts: phrases; each becomes a category, repeated ones become one.
        output: a folder for ``NAME.png`` (the image with its masks) of each image and ``annotations.json``, without
            results of another run.
        progress: called with the stage and the share done, 0..1.

    Raises:
        OptionError: no or empty phrases.
        EncoderError: the encoder fails.
        OutputError: the folder holds something that would be replaced, or another process writes to it.
        OSError: the folder cannot be written.
    """
    job = SegmentJob.of(files, prompts, {})
    with job.open(output, goes_on=False) as kept:
        return job.run_all(segmenter, kept, progress)


@dataclass(frozen=True, eq=False)
class SegmentJob:
    """Images and what is asked of them.

    Attributes:
        files: images.
        phrases: distinct ones.
        run: what the results depend on: the phrases, and what makes them (model, text encoder, threshold).
    """

    files: tuple[Path, ...]
    phrases: tuple[str, ...]
    run: Mapping[str, Any]

    @classmethod
    def of(cls, files: Sequence[Path], prompts: Iterable[str], maker: Mapping[str, Any]) -> "SegmentJob":
        """A job; repeated phrases become one.

        Raises:
            OptionError: no or empty phrases.
        """
        phrases = tuple(dict.fromkeys(check_prompts(prompts)))
        return cls(tuple(files), phrases, {"phrases": list(phrases), **maker})

    def open(self, output: Path | None, *, goes_on: bool) -> AbstractContextManager[SegmentFolder | None]:
        """The folder to write to, locked and checked, with what an earlier run finished; None without one.

        Args:
            output: the folder.
            goes_on: whether that may be taken up: only where the run says all that results depend on.

        Raises:
            OutputError: something there would be replaced, or another process writes to it.
        """
        if output is None:
            return nullcontext()
        return SegmentFolder.open(output, overlay_names(self.files), self.run, goes_on=goes_on)

    def run_all(
        self,
        segmenter: Segmenter,
        kept: SegmentFolder | None,
        progress: Progress = lambda _stage, _share: None,
    ) -> SegmentReport:
        """Segment the images that are not finished; however that ends, what is finished is in ``annotations.json``.

        Raises:
            EncoderError: the encoder fails.
            OSError: the folder cannot be written.
        """
        records: dict[str, Record] = {} if kept is None else kept.records
        failures: list[Failure] = []
        resumed = 0
        names = overlay_names(self.files)
        try:
            for done, file in enumerate(self.files):
                progress("segmenting", done / len(self.files))
                if kept is not None:
                    if kept.finished(file, names[file]):
                        resumed += 1
                        continue
                    kept.forget(file, names[file])
                try:
                    picture = read_image(file)
                except ImageError as error:
                    failures.append(Failure(str(file), str(error)))
                    continue
                results = segmenter.segment(picture, self.phrases)
                record = _record(file, picture, results)
                if kept is None:
                    records[str(file)] = record
                else:
                    kept.add({**record, "overlay": names[file]}, file)
                    _write_overlay(kept.folder / names[file], picture, results)
        finally:
            if kept is not None:
                kept.drop_unfinished()
            finished = (records[str(file)] for file in self.files if str(file) in records)
            report = SegmentReport.of(finished, self.phrases, failures, self.run)
            if kept is not None:
                kept.finish(report.to_json())
        progress("segmenting", 1.0)
        return replace(report, resumed=resumed)


def _record(file: Path, picture: Any, results: Sequence[Masks]) -> Record:
    """A finished image; its annotations get their ids in the report."""
    annotations = [
        {name: one[name] for name in one if name != "image_id"}
        for category_id, masks in enumerate(results, 1)
        for one in masks.to_coco(0, category_id)
    ]
    size = {"width": picture.width, "height": picture.height}
    return {"file_name": str(file), **size, "annotations": annotations}


def overlay_names(files: Iterable[Path]) -> dict[Path, str]:
    """A name of its own for the overlay of each file: its stem, numbered where another file has it too."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        stem = file.stem
        while len(os.fsencode(stem)) > _LONGEST_STEM:
            stem = stem[:-1]
        number, name = 1, f"{stem}.png"
        # Compared without case: some file systems do.
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}.png"
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
            names = (Text(printable(shortened(text))) for text in (image["file_name"], category["name"]))
            table.add_row(*names, str(counts[key]), score)
    Console().print(table)


def _write_overlay(path: Path, picture: Any, results: Sequence[Masks]) -> None:
    with atomic_file(path) as file:
        draw_all(picture, results).save(file, "PNG")
