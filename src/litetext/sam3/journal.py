"""The folder that a segmentation writes to: what is finished stays finished, and nothing of the user's is replaced.

While images are segmented, ``annotations.json.journal`` stands beside their overlays: JSON lines, the first of which
says what run they belong to, then one for each finished image. When the run ends, by an error or Ctrl-C too, they
become ``annotations.json``, which says the same: COCO data with the run under ``info``. From either the same command
goes on.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litetext.errors import OutputError
from litetext.records import parse_json
from litetext.storage import check_output, checksum, only_writer, to_json, write_text

ANNOTATIONS = "annotations.json"
JOURNAL = "annotations.json.journal"
TOOL = "litetext segment"
_MARK = f'{{"{TOOL}": '.encode()
_HINT = "give another folder, or move these files away"
Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class SegmentFolder:
    """Finished images of a run, on disk.

    Attributes:
        folder: where overlays, annotations and journal stand.
        run: what the results depend on, name by name: phrases, model, threshold and so on.
        records: of finished images by file: an entry of ``images`` without its id, and ``annotations`` without ids.
    """

    folder: Path
    run: Mapping[str, Any]
    records: dict[str, Record] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, names: Mapping[Path, str], run: Mapping[str, Any], *, goes_on: bool
    ) -> Iterator["SegmentFolder"]:
        """Take up what an earlier run finished; while the block runs nobody else writes to the folder.

        Args:
            folder: it is made if it is missing.
            names: of the overlay of each image.
            run: what the results depend on.
            goes_on: whether results that are there may be taken up; else they are an error.

        Raises:
            OutputError: another process writes there, or something is there that is not of this run: an overlay or
                ``annotations.json`` would replace it.
        """
        with only_writer(folder, "to this folder"):
            kept = cls(folder, run)
            kept._recover()
            if kept.records and not goes_on:
                raise OutputError("results are there already", where=str(folder), hint="give another folder")
            kept._check(names)
            yield kept

    def finished(self, file: Path, overlay: str) -> bool:
        """Whether an image with the same content is finished, and its overlay is there under that name."""
        record = self.records.get(str(file))
        if record is None or record["overlay"] != overlay or not (self.folder / overlay).is_file():
            return False
        try:
            return bool(record["blake2b"] == checksum(file.parent, [file.name]))
        except OSError:  # gone since: reading the image says so
            return False

    def add(self, record: Record, file: Path) -> None:
        """Keep the record of a finished image; the first one begins the journal. Its overlay is to be written then.

        In this order a killed run leaves no overlay that nobody knows to be ours; a record without one is not finished.

        Raises:
            OSError: the journal cannot be written.
        """
        record["blake2b"] = checksum(file.parent, [file.name])
        (self.folder / record["overlay"]).unlink(missing_ok=True)  # of an image whose name it was
        path = self.folder / JOURNAL
        lines = b"" if path.exists() else _MARK + json.dumps(dict(self.run)).encode() + b"}\n"
        with path.open("ab") as journal:
            journal.write(lines + json.dumps(record, allow_nan=False).encode() + b"\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.records[record["file_name"]] = record

    def forget(self, file: Path, overlay: str) -> None:
        """Drop what an earlier run found in an image that has changed since."""
        if (record := self.records.pop(str(file), None)) is not None and record["overlay"] == overlay:
            (self.folder / overlay).unlink(missing_ok=True)

    def drop_unfinished(self) -> None:
        """Drop the image that was under way when the run ended, whose overlay was not written."""
        for name, record in list(self.records.items()):
            if not (self.folder / record["overlay"]).is_file():
                del self.records[name]

    def finish(self, data: Mapping[str, Any]) -> None:
        """Write ``annotations.json`` and remove the journal.

        Raises:
            OSError: it cannot be written; the journal stays.
        """
        write_text(self.folder / ANNOTATIONS, to_json(data))
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _recover(self) -> None:
        annotations, journal = self.folder / ANNOTATIONS, self.folder / JOURNAL
        for path in (annotations, journal):
            check_output(path)
        try:
            if annotations.exists():
                self._compare(*_read_annotations(annotations.read_bytes()), annotations)
            if journal.exists() and not self._recover_journal(journal):
                journal.unlink()
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise OutputError(
                f"an {ANNOTATIONS} or its journal that is not of `{TOOL}`", where=str(self.folder), hint=_HINT
            ) from error

    def _recover_journal(self, path: Path) -> bool:
        """Take up a journal and drop what was not written to its end; False where no image was."""
        lines = path.read_bytes().splitlines(keepends=True)
        header = lines[0] if lines else b""
        if not header.startswith(_MARK) and not _MARK.startswith(header):
            raise ValueError("not a journal")
        if not header.endswith(b"\n"):
            return False
        records, kept = [], len(header)
        for line in lines[1:]:
            if not line.endswith(b"\n"):
                break
            try:
                records.append(_checked(parse_json(line)))
            except ValueError:  # a line that a full disk cut, before the next run wrote its own
                break
            kept += len(line)
        self._compare(dict(parse_json(header)[TOOL]), records, path)
        os.truncate(path, kept)
        return bool(records)

    def _compare(self, run: Mapping[str, Any], records: Sequence[Record], where: Path) -> None:
        """Take up records of the same run; name the first thing in which another one differs, if it has any."""
        for name in () if not records else (*self.run, *(other for other in run if other not in self.run)):
            theirs, ours = run.get(name, "not said"), self.run.get(name, "not said")
            if theirs != ours:
                raise OutputError(
                    f"results of another run are there: {name} was {theirs}, and is {ours} now",
                    where=str(where),
                    hint=_HINT,
                )
        self.records.update((record["file_name"], record) for record in records)

    def _check(self, names: Mapping[Path, str]) -> None:
        """Refuse to replace what is not ours, or to lose results of images that are not asked for now."""
        asked = {str(file) for file in names}
        if lost := [name for name in self.records if name not in asked]:
            raise OutputError(
                f"results of {len(lost)} other images are there, such as {lost[0]}", where=str(self.folder), hint=_HINT
            )
        inputs = {_identity(file): file for file in names if file.exists()}
        ours = {record["overlay"] for record in self.records.values()}
        for overlay in names.values():
            path = self.folder / overlay
            check_output(path)
            if not path.exists():
                continue
            if _identity(path) in inputs:
                raise OutputError("an overlay would replace an image", where=str(path), hint="give another folder")
            if overlay not in ours:
                raise OutputError("an overlay would replace a file", where=str(path), hint=_HINT)


def overlays_of(folder: Path) -> list[Path]:
    """Overlays that an earlier run left in a folder; none where there is no sign of one."""
    path = folder / ANNOTATIONS
    records: Sequence[Record] = ()
    try:
        if path.exists():
            _, records = _read_annotations(path.read_bytes())
        journal = folder / JOURNAL
        if journal.exists():
            lines = journal.read_bytes().splitlines()[1:]
            records = [*records, *(_checked(parse_json(line)) for line in lines)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # `SegmentFolder.open` says what is wrong
    return [folder / record["overlay"] for record in records]


def _identity(path: Path) -> tuple[int, int]:
    """What is the same of one file under several names."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _read_annotations(data: bytes) -> tuple[dict[str, Any], list[Record]]:
    """The run and the records of an ``annotations.json``.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is none of ours.
    """
    document = parse_json(data)
    run = dict(document["info"][TOOL])
    by_image: dict[int, list[Record]] = defaultdict(list)
    for one in document["annotations"]:
        by_image[one["image_id"]].append({name: one[name] for name in one if name not in ("id", "image_id")})
    images = ({**image, "annotations": by_image[image["id"]]} for image in document["images"])
    return run, [_checked({name: image[name] for name in image if name != "id"}) for image in images]


def _checked(record: Record) -> Record:
    """A record with all that is read of it later.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: something is missing, or not what it should be.
    """
    if not record.keys() >= {"file_name", "width", "height", "overlay", "blake2b", "annotations"}:
        raise ValueError("not a record")
    if Path(record["overlay"]).name != record["overlay"] or not isinstance(record["file_name"], str):
        raise ValueError("not a record")
    for one in record["annotations"]:
        if not one.keys() >= {"category_id", "segmentation"} or not isinstance(one["score"], float):
            raise ValueError("not an annotation")
    return record
