"""Segment many image files: overlays and COCO annotations; a bad image does not stop the rest, a kill loses little.

While images are segmented, ``annotations.json.journal`` stands beside their overlays: a `ResumeLog` with a line for
each finished image. When the run ends, by an error or Ctrl-C too, it becomes ``annotations.json``, which holds the
same: COCO data with the run under ``info``. The same command resumes from either; no file of the user's is replaced.
On a cluster, whose actors write overlays before the driver hears of it, ``annotations.json.planned`` has their names.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from litetext.errors import ImageError, OutputError
from litetext.features.store import distinct_phrases
from litetext.records import parse_json, read_json
from litetext.resume_log import ResumeLog
from litetext.sam3 import found_files
from litetext.sam3.images import read_image
from litetext.sam3.masks import ImageMasks, Masks
from litetext.sam3.segmenter import Segmenter, check_prompts
from litetext.storage import atomic_file, check_output, checksum, only_writer, to_json, write_text

ANNOTATIONS = "annotations.json"
LOG = "annotations.json.journal"
PLANNED = "annotations.json.planned"
TOOL = "litetext segment"
_HINT = "give another folder, or move these files away"
_LONGEST_STEM = 200  # bytes; a name of 255 must hold a number, ".png" and what a file is called while it is written

Progress = Callable[[str, float], None]
# A finished image: an entry of COCO's ``images`` without its id, and ``annotations`` without ids. In a folder it also
# has ``overlay``, the name of that file, and ``blake2b``, a checksum of the image's name and content.
Record = dict[str, Any]


class SegmentRun:
    """Images, the phrases to find in them, and what is finished.

    Args:
        files: images.
        prompts: phrases; each becomes a category, those that the tokenizer cannot tell apart become one.
        made_by: what else the results depend on, name by name: model, text encoder, threshold.
        folder: where to write ``NAME.png`` (the image with its masks) of each image, ``annotations.json`` and what
            `found_files` makes of them; None: nowhere.
        kinds: of more files to write: "masks", a PNG of each; "yolo", a data set to train on.
    """

    def __init__(
        self,
        files: Sequence[Path],
        prompts: str | Iterable[str],
        made_by: Mapping[str, Any],
        folder: Path | None = None,
        kinds: Collection[str] = (),
    ) -> None:
        self.phrases = list(distinct_phrases(check_prompts(prompts)).values())
        self.settings = {"phrases": self.phrases, **made_by}
        self.folder, self.kinds = folder, kinds
        self.overlays = overlay_names(files)
        self.records: dict[str, Record] = {}
        self.milliseconds: dict[str, float] = {}  # of each image of this run, from its pixels to masks
        self.resumed = 0  # how many of the images an earlier run had finished
        self._log = ResumeLog((folder or Path()) / LOG, TOOL, self.settings, _HINT)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Read what an earlier run finished; while the block runs no other process writes to the folder.

        What is there and not of this run, and would be replaced by an overlay or ``annotations.json``, is an
        `OutputError`.
        """
        if self.folder is None:
            yield
            return
        with only_writer(self.folder, "to this folder"):
            self._recover(self.folder)
            self._check_outputs(self.folder)
            yield

    def segment(self, segmenter: Segmenter, progress: Progress = lambda _stage, _share: None) -> dict[str, Any]:
        """Segment the images that are not finished; however that ends, what is finished is in ``annotations.json``.

        Returned is that COCO data set: ``images``, ``categories`` (the phrases) and ``annotations``, as `Masks.to_coco`
        makes them; besides, ``info`` has what made it, and ``failures`` the images that could not be read.
        """
        failures: list[dict[str, str]] = []
        data: dict[str, Any] = {}
        try:
            for done, file in enumerate(self.overlays):
                progress("segmenting", done / len(self.overlays))
                if self._is_finished(file):
                    self.resumed += 1
                    self._write_found(file)
                    continue
                self._forget(file)
                try:
                    picture = read_image(file)
                except ImageError as error:
                    failures.append({"file": str(file), "reason": str(error)})
                    continue
                began = perf_counter()
                results = list(segmenter.segment_embedding(segmenter.embed(picture), self.phrases))
                self.milliseconds[str(file)] = round(1000 * (perf_counter() - began), 1)
                self._keep(file, picture, results)
                self._write_found(file, picture)
        finally:
            data = self.finish(failures)
        progress("segmenting", 1.0)
        return data

    def plan(self) -> None:
        """Note, once the folder is checked, what others are about to write there: the next run may replace it."""
        if self.folder is not None:
            names = {*_planned(self.folder), *self.overlays.values()}
            write_text(self.folder / PLANNED, to_json({TOOL: sorted(names)}))

    def finish(self, failures: list[dict[str, str]]) -> dict[str, Any]:
        """Write ``annotations.json`` and the page of what is finished; returned is what `segment` returns."""
        data = self._to_coco(failures)
        if self.folder is not None:
            write_text(self.folder / ANNOTATIONS, to_json(data))
            self._log.path.unlink(missing_ok=True)
            (self.folder / PLANNED).unlink(missing_ok=True)
            found_files.write_page(self.folder, data, self.kinds)
        return data

    def _is_finished(self, file: Path) -> bool:
        """Whether an image with the same content is finished, and its overlay is there under its name."""
        record = self.records.get(str(file))
        if record is None or self.folder is None or record["overlay"] != self.overlays[file]:
            return False
        try:
            has_overlay = (self.folder / record["overlay"]).is_file()
            return has_overlay and bool(record["blake2b"] == checksum(file.parent, [file.name]))
        except OSError:  # gone since: reading the image reports it
            return False

    def _forget(self, file: Path) -> None:
        """Drop what an earlier run found in an image that has changed since."""
        record = self.records.pop(str(file), None)
        if record is not None and self.folder is not None and record["overlay"] == self.overlays[file]:
            clear_place(self.folder, record)

    def _write_found(self, file: Path, picture: Image.Image | None = None) -> None:
        if self.folder is not None:
            found_files.write_found(self.folder, self.records[str(file)], self.phrases, self.kinds, picture)

    def _keep(self, file: Path, picture: Image.Image, results: Sequence[Masks]) -> None:
        """Log a finished image, then write its overlay.

        In this order a killed run leaves no overlay of unknown origin; a record without one is not finished.
        """
        record = {"file_name": str(file), **describe_found(picture, results)}
        if self.folder is not None:
            record |= {"overlay": self.overlays[file], "blake2b": checksum(file.parent, [file.name])}
            clear_place(self.folder, record)
            self._log.append(record)
        self.records[str(file)] = record
        if self.folder is not None:
            write_overlay(self.folder, record, picture, results)

    def _to_coco(self, failures: list[dict[str, str]]) -> dict[str, Any]:
        """Number the images and annotations that are finished; one whose overlay was not written is not."""
        records = [self.records[str(file)] for file in self.overlays if str(file) in self.records]
        if self.folder is not None:
            records = [record for record in records if (self.folder / record["overlay"]).is_file()]
        self.records = {record["file_name"]: record for record in records}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, record in enumerate(records, 1):
            images.append({"id": image_id, **_without(record, "annotations")})
            numbered = enumerate(record["annotations"], len(annotations) + 1)
            annotations += [{"id": number, "image_id": image_id, **annotation} for number, annotation in numbered]
        return {
            "info": {"description": "masks of phrases in images", TOOL: self.settings},
            "images": images,
            "categories": [{"id": number, "name": phrase} for number, phrase in enumerate(self.phrases, 1)],
            "annotations": annotations,
            "failures": failures,
        }

    def _recover(self, folder: Path) -> None:
        path = folder / ANNOTATIONS
        for output in (path, self._log.path):
            check_output(output)
        if path.exists():
            try:
                settings, records = _read_annotations(path.read_bytes())
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                message = f"an {ANNOTATIONS} that is not of `{TOOL}`"
                raise OutputError(message, where=str(folder), hint=_HINT) from error
            if records:
                self._log.compare(settings, path)
            self.records = {record["file_name"]: record for record in records}

        def accept(record: Record) -> bool:
            self.records[_checked(record)["file_name"]] = record
            return True

        self._log.recover(accept)

    def _check_outputs(self, folder: Path) -> None:
        """Refuse to replace what is not ours, or to lose results of images that are not asked for now."""
        asked = {str(file) for file in self.overlays}
        if lost := [name for name in self.records if name not in asked]:
            message = f"results of {len(lost)} other images are there, such as {lost[0]}"
            raise OutputError(message, where=str(folder), hint=_HINT)
        inputs = {_inode(file) for file in self.overlays if file.exists()}
        ours = {*_planned(folder), *(record["overlay"] for record in self.records.values())}
        found_files.check_found(folder, (name for name in self.overlays.values() if name not in ours), _HINT)
        for overlay in self.overlays.values():
            path = folder / overlay
            check_output(path)
            if path.exists() and _inode(path) in inputs:
                raise OutputError("an overlay would replace an image", where=str(path), hint="give another folder")
            if path.exists() and overlay not in ours:
                raise OutputError("an overlay would replace a file", where=str(path), hint=_HINT)


def check_failures(data: Mapping[str, Any]) -> None:
    """Name the images of a COCO data set of `SegmentRun.segment` that failed."""
    if failures := data["failures"]:
        count = len(data["images"]) + len(failures)
        reasons = " | ".join(failure["reason"] for failure in failures)
        raise ImageError(f"{len(failures)} of {count} images were not segmented: {reasons}")


def overlay_names(files: Iterable[Path]) -> dict[Path, str]:
    """A name of its own for the overlay of each file: its stem, numbered where another file has it too."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        stem = file.stem
        while len(os.fsencode(stem)) > _LONGEST_STEM:
            stem = stem[:-1]
        numbered = (f"{stem}-{number}.png" for number in count(2))
        # Compared without case: some file systems do.
        name = next(name for name in chain([f"{stem}.png"], numbered) if name.lower() not in taken)
        taken.add(name.lower())
        names[file] = name
    return names


def overlays_of(folder: Path) -> list[Path]:
    """Overlays, and folders of other pictures, that an earlier run left; none where there is no sign of one."""
    records: list[Record] = []
    try:
        if (folder / ANNOTATIONS).exists():
            records = _read_annotations((folder / ANNOTATIONS).read_bytes())[1]
        records += map(_checked, ResumeLog(folder / LOG, TOOL, {}, _HINT).items())
        names = _planned(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OutputError):
        names = []  # `SegmentRun.locked` reports it
    names += [record["overlay"] for record in records]
    folders = [folder / name for name in found_files.OF_PICTURES] if names else []
    return [*folders, *(folder / name for name in names)]


def describe_found(picture: Image.Image, results: Sequence[Masks]) -> Record:
    """Of a `Record` the size of the image and the annotations, from the masks of each phrase."""
    annotations = [
        _without(annotation, "image_id")
        for category_id, masks in enumerate(results, 1)
        for annotation in masks.to_coco(0, category_id)
    ]
    return {"width": picture.width, "height": picture.height, "annotations": annotations}


def clear_place(folder: Path, record: Record) -> None:
    """Remove the files of an image whose name the overlay was."""
    (folder / record["overlay"]).unlink(missing_ok=True)
    found_files.remove_found(folder, record["overlay"])


def write_overlay(folder: Path, record: Record, picture: Image.Image, results: Sequence[Masks]) -> None:
    """Write the image with its masks."""
    with atomic_file(folder / record["overlay"]) as file:
        ImageMasks(results).draw(picture).save(file, "PNG")


def _planned(folder: Path) -> list[str]:
    """Overlays that a run which did not end may have written."""
    path = folder / PLANNED
    try:
        return [Path(name).name for name in read_json(path)[TOOL]] if path.exists() else []
    except (ValueError, LookupError, TypeError) as error:
        raise OutputError(f"not of `{TOOL}`", where=str(path), hint=_HINT) from error


def _inode(path: Path) -> tuple[int, int]:
    """What a file has in common under several names."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _read_annotations(data: bytes) -> tuple[dict[str, Any], list[Record]]:
    """The run and the records of an ``annotations.json``."""
    document = parse_json(data)
    settings = dict(document["info"][TOOL])
    by_image: defaultdict[int, list[Record]] = defaultdict(list)
    for annotation in document["annotations"]:
        by_image[annotation["image_id"]].append(_without(annotation, "id", "image_id"))
    images = ({**image, "annotations": by_image[image["id"]]} for image in document["images"])
    return settings, [_checked(_without(image, "id")) for image in images]


def _without(entry: Mapping[str, Any], *names: str) -> Record:
    return {name: value for name, value in entry.items() if name not in names}


def _checked(record: Record) -> Record:
    """A record with all that is read of it later."""
    if not record.keys() >= {"file_name", "width", "height", "overlay", "blake2b", "annotations"}:
        raise ValueError("not a record")
    if Path(record["overlay"]).name != record["overlay"] or not isinstance(record["file_name"], str):
        raise ValueError("not a record")
    for annotation in record["annotations"]:
        if not annotation.keys() >= {"category_id", "segmentation"} or not isinstance(annotation["score"], float):
            raise ValueError("not an annotation")
    return record
