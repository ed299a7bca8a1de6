"""Jobs on pictures and clips: segment, track, predict for an evaluation; the same files as on one machine."""

import pickle
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from litetext.errors import ImageError, LiteTextError, OptionError, first_line
from litetext.evaluation.predict import PredictionPlan, find_instances, finish_predictions
from litetext.sam3.found_files import write_found
from litetext.sam3.images import read_image
from litetext.sam3.segment_files import SegmentRun, clear_place, describe_found, overlay_names, write_overlay
from litetext.scale.jobs import (
    Cluster,
    Job,
    Part,
    Progress,
    Receipt,
    key_of,
    peak_memory,
    run_parts,
    worker_name,
    write_table,
)
from litetext.scale.workers import ANNOTATIONS, SegmentImages
from litetext.storage import checksum
from litetext.video.track_files import MASKLETS

if TYPE_CHECKING:
    from litetext.sam3.segmenter import Segmenter

PARTS = "parts"  # the folder of them, in that of the overlays
_IMAGES = 16  # of a part; what a kill can cost is the work on one
# The first images make small parts, which are computed last: so all actors end at about the same time.
_FEW, _EDGE = 4, 256
_SLICE = 64  # rows of a table for a part
_RECORDS = pa.schema(
    [
        ("file_name", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("annotations", ANNOTATIONS),
        ("overlay", pa.string()),
        ("blake2b", pa.string()),
        ("error", pa.string()),
    ]
)


def segment_images(
    cluster: Cluster, run: SegmentRun, start: "Callable[[], Segmenter]", folder: Path, progress: Progress
) -> tuple[dict[str, Any], Job]:
    """Segment the images of a run that is locked; the files in its folder are those of `SegmentRun.segment`.

    Each part is a Parquet file of ``folder``, a row for each image; overlays are written by the actors. A run without
    a folder has Parquet alone. Returned is what `SegmentRun.segment` returns; without a folder no ``annotations``.
    """
    files = [(str(file), overlay) for file, overlay in run.overlays.items()]
    groups = [files[first : first + _FEW] for first in range(0, min(len(files), _EDGE), _FEW)]
    groups += [files[first : first + _IMAGES] for first in range(_EDGE, len(files), _IMAGES)]
    keys = [key_of(text for file, name in group for text in (file, name, _mark(file))) for group in groups]
    parts = [
        Part(f"part-{number:05d}.parquet", key, group)
        for number, (key, group) in enumerate(zip(keys, groups, strict=True))
    ]
    settings = {**run.settings, "phrases": key_of(run.phrases), "files": ",".join(run.kinds)}
    job = Job(folder, "litetext segment --ray", settings)
    folder.mkdir(parents=True, exist_ok=True)
    job.recover()
    for part in parts if run.folder is not None else ():
        if not all((run.folder / overlay).is_file() for _, overlay in part.payload):
            job.receipts.pop(part.name, None)
    if not all(map(job.is_finished, parts)):
        run.plan()
    begin = partial(_start_segmenting, start, run.phrases, run.folder, run.kinds)
    receipts = job.run(cluster, parts[::-1], begin, progress)[::-1]
    run.resumed = len(files) - sum(receipt["rows"] for receipt in job.computed)
    failures = [failure for receipt in receipts for failure in receipt["failures"]]
    if run.folder is None:
        job.finish()
        return {"images": sum(receipt["rows"] for receipt in receipts), "failures": failures}, job
    for part in parts:
        for record in pq.read_table(folder / part.name).to_pylist():
            if record.pop("error") is None:
                run.records[record["file_name"]] = record
    data = run.finish(failures)
    job.finish()
    return data, job


def segment_tables(
    cluster: Cluster,
    files: Sequence[Path],
    phrases: Sequence[str] | None,
    start: "Callable[[], Segmenter]",
    *,
    folder: Path,
    settings: Mapping[str, str],
    progress: Progress,
) -> Job:
    """Segment the images of Parquet files into Parquet: the same rows, with what `SegmentImages` adds.

    Column ``image`` has paths, bytes of files, or both as Hugging Face datasets have them; it is left out where there
    are bytes. Without phrases those of each row are in column ``phrases``.

    Raises:
        ImageError: a file that is not Parquet.
        OptionError: a column is missing.
    """
    parts: list[Part] = []
    for file in map(str, files):
        row = 0
        for group, size in enumerate(_row_groups(file, ["image"] if phrases else ["image", "phrases"])):
            for first in range(0, size, _SLICE):
                name, place = f"part-{len(parts):05d}.parquet", (file, group, first, row + first)
                parts.append(Part(name, key_of([*map(str, place), _mark(file)]), place))
            row += size
    job = Job(folder, "litetext segment --ray", {**settings, "phrases": key_of(phrases or ())})
    job.recover()
    job.run(cluster, parts, partial(_start_slicing, start, phrases), progress)
    job.finish()
    return job


def _row_groups(file: str, needed: Sequence[str]) -> list[int]:
    """The rows of each row group."""
    try:
        with pq.ParquetFile(file) as table:
            found, names = table.metadata, table.schema_arrow.names
            lacking = [name for name in needed if name not in names]
            if lacking:
                hint = f"it has {', '.join(names)}"
                raise OptionError(f"no column '{lacking[0]}'", where=file, hint=hint)
            kind = table.schema_arrow.field("phrases").type if "phrases" in needed else pa.string()
            texts = getattr(kind, "value_type", kind)
            if not (pa.types.is_string(texts) or pa.types.is_large_string(texts)):
                raise OptionError(f"column 'phrases' of {kind}", where=file, hint="give each row a list of texts")
            return [found.row_group(group).num_rows for group in range(found.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"not Parquet ({first_line(error)})", where=file, hint="write it again") from error


def _start_slicing(
    start: "Callable[[], Segmenter]", phrases: Sequence[str] | None
) -> Callable[[tuple[str, int, int, int], Path], Receipt]:
    return partial(_segment_slice, SegmentImages(start, phrases))


def _segment_slice(worker: SegmentImages, place: tuple[str, int, int, int], path: Path) -> Receipt:
    file, group, first, row = place
    try:
        with pq.ParquetFile(file) as source:
            table = worker(source.read_row_group(group).slice(first, _SLICE))
    except (OSError, pa.ArrowException) as error:
        return {"rows": 0, "failures": [{"file": file, "reason": f"rows from {row}: {first_line(error)}"}]}
    failures = [
        {"file": f"{file}, row {number}", "reason": f"row {number}: {error}"}
        for number, error in enumerate(table["error"].to_pylist(), row)
        if error is not None
    ]
    if not pa.types.is_string(table.schema.field("image").type):
        table = table.drop_columns(["image"])
    write_table(path, table)
    return {"rows": len(table), "failures": failures}


def _mark(file: str) -> str:
    """What changes when a file changes; nothing of one that is gone, whose error is found later."""
    with suppress(OSError):
        stat = Path(file).stat()
        return f"{stat.st_size} {stat.st_mtime_ns}"
    return ""


def _start_segmenting(
    start: "Callable[[], Segmenter]", phrases: Sequence[str], folder: Path | None, kinds: Collection[str]
) -> Callable[[list[tuple[str, str]], Path], Receipt]:
    """Load the model; what is done with a part then."""
    return partial(_segment_part, SegmentImages(start, phrases), folder, kinds)


def _segment_part(
    worker: SegmentImages, folder: Path | None, kinds: Collection[str], files: list[tuple[str, str]], path: Path
) -> Receipt:
    records: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    phrases = worker.phrases or ()
    for name, overlay in files:
        file, record = Path(name), {"file_name": name}
        try:
            picture = read_image(file)
            found = worker.find(picture, phrases)
            record |= describe_found(picture, found)
            if folder is not None:
                record |= {"overlay": overlay, "blake2b": checksum(file.parent, [file.name])}
                clear_place(folder, record)
                write_overlay(folder, record, picture, found)
                write_found(folder, record, phrases, kinds, picture)
        except LiteTextError as error:
            record["error"] = str(error)
            failures.append({"file": name, "reason": str(error)})
        records.append(record)
    write_table(path, pa.Table.from_pylist(records, schema=_RECORDS))
    return {"rows": len(records), "failures": failures}


@dataclass(frozen=True)
class TrackJob:
    """What is done with every clip."""

    load: "Callable[[], Segmenter]"
    phrases: Sequence[str]
    made_by: Mapping[str, str]  # as `TrackRun` takes it
    overlays: Sequence[str]
    read: Mapping[str, Any]  # options of `open_clip`
    follow: Mapping[str, Any]  # options of `make_tracker`

    def start(self) -> Callable[[str, Path], Receipt]:
        """Load the model; what is done with a clip then."""
        return partial(self._track, self.load())

    def _track(self, segmenter: "Segmenter", clip: str, path: Path) -> Receipt:
        from litetext.video.frames import open_clip
        from litetext.video.methods import make_tracker
        from litetext.video.track_files import TrackRun

        try:
            with open_clip(clip, **self.read) as frames:
                run = TrackRun(clip, self.phrases, self.made_by, path.parent, overlays=self.overlays)
                with run.locked():
                    made = run.track(frames, lambda: make_tracker(segmenter, run.phrases, **self.follow))
        except LiteTextError as error:
            return {"rows": 1, "failures": [{"file": clip, "reason": str(error)}]}
        return {"rows": 1, "failures": [], "note": made}


def track_clips(
    cluster: Cluster, job: TrackJob, clips: Sequence[str], folder: Path, progress: Progress
) -> tuple[list[dict[str, Any]], Job]:
    """Track clips, each into the folder of its name as `TrackRun` does; the summaries of those that did not fail."""
    names = (Path(name).stem for name in overlay_names(map(Path, clips)).values())
    parts = [
        Part(f"{name}/{MASKLETS}", key_of([clip, _mark(clip)]), clip) for name, clip in zip(names, clips, strict=True)
    ]
    settings = {**job.made_by, "phrases": key_of(job.phrases), "overlays": ",".join(job.overlays)}
    made = Job(folder, "litetext track --ray", settings)
    made.recover()
    receipts = made.run(cluster, parts, job.start, progress)
    made.finish()
    return [receipt["note"] for receipt in receipts if not receipt["failures"]], made


def predict_plan(
    cluster: Cluster,
    plan: PredictionPlan,
    start: "Callable[[], Segmenter]",
    find: "Callable[[Segmenter, Any], list[dict[str, Any]]] | None",
    progress: Progress,
) -> dict[str, Any]:
    """Do what is left of a plan as `litetext.evaluation.predict.predict` does, into the same log and file.

    Answers come in the order of the pictures. A picture that fails ends the job as on one machine, since a score of the
    others would be another score; what was finished before it is in the log. Returns what `Job.report` does.
    """
    rest = plan.pictures[plan.finished :]
    parts = [Part(picture.name, "", picture) for picture in rest]
    job = Job(plan.output.parent, plan.log.tool, plan.log.run)
    if parts:
        cluster.start()
    began = time.perf_counter()
    answers = run_parts(cluster, parts, _Predictor, (start, find or find_instances), ordered=True)
    for picture, (found, error, receipt) in zip(rest, answers, strict=True):
        if error is not None:
            raise error
        plan.log.append({"picture": picture.name, "predictions": found})
        job.computed.append(receipt)
        progress("predicting", (plan.finished + len(job.computed)) / len(plan.pictures))
    job.seconds = time.perf_counter() - began
    finish_predictions(plan)
    return job.report(cluster)


class _Predictor:
    """An actor that predicts for pictures or clips of a plan."""

    def __init__(
        self, start: "Callable[[], Segmenter]", find: "Callable[[Segmenter, Any], list[dict[str, Any]]]"
    ) -> None:
        self.segmenter, self.find = start(), find

    def __call__(self, batch: Any) -> dict[str, list[bytes]]:
        """The predictions of a picture, or the error."""
        began = time.perf_counter()
        picture, found, failed = pickle.loads(batch["payload"][0]), None, None  # noqa: S301 - of our own driver
        try:
            found = self.find(self.segmenter, picture)
        except LiteTextError as error:
            failed = LiteTextError(str(error))
        done = {"rows": 1, "seconds": time.perf_counter() - began, "worker": worker_name(), "memory": peak_memory()}
        return {"answer": [pickle.dumps((found, failed, done))]}
