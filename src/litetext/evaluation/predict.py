"""Predictions for the (image, phrase) pairs of SA-Co Gold: each picture is seen once, and what is finished stays."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from litetext.checkpoints.shipped import shipped_folder
from litetext.errors import EvaluationError, ImageError, OptionError
from litetext.evaluation.cgf1 import SCORE_THRESHOLD, Progress
from litetext.evaluation.coco_json import Entry, PairId, by_id, entries, read_annotator
from litetext.evaluation.resume_log import Journal, file_fingerprint
from litetext.sam3.images import read_image
from litetext.sam3.segmenter import Segmenter, SegmentOptions
from litetext.storage import checksum, inside

_CATEGORY = 1
_RESULT = ("category_id", "segmentation", "score", "bbox")


@dataclass(frozen=True)
class PredictionJob:
    """What to predict, and where it goes.

    Attributes:
        truth: an annotator's file: COCO JSON of (image, phrase) pairs. All its pairs are asked.
        images: folders that ``file_name`` starts in; the first that has the picture.
        output: the predictions, COCO results.
        maker: what makes them, name by name (model, text encoder, threshold): those of another are never mixed in.
    """

    truth: Path
    images: tuple[Path, ...]
    output: Path
    maker: Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """A picture and what is asked of it.

    Attributes:
        name: ``file_name`` of its pairs.
        file: where it is.
        size: height and width in pixels, where the annotations say them.
        phrases: the phrase of each pair.
    """

    name: str
    file: Path
    size: tuple[int, int] | None
    phrases: Mapping[PairId, str]


@dataclass(frozen=True)
class Plan:
    """What is left of a job.

    Attributes:
        pictures: all pictures of the job; none where it is complete.
        finished: how many of them are in the journal.
        journal: where finished pictures go.
        is_complete: the predictions are there.
    """

    pictures: tuple[Picture, ...]
    finished: int
    journal: Journal
    is_complete: bool


def options_for(threshold: float) -> SegmentOptions:
    """How to segment so that predictions of the threshold's score or better are kept, as cgF1 counts them.

    `SegmentOptions` keeps what is above its threshold; a score of exactly 0.5 counts.

    Args:
        threshold: at most 0.5. cgF1 needs no lower one, average precision does.

    Raises:
        OptionError: out of range.
    """
    if not 0 <= threshold <= SCORE_THRESHOLD:
        raise OptionError(f"a threshold of {threshold}", hint=f"give 0 to {SCORE_THRESHOLD}: cgF1 reads all above that")
    return SegmentOptions(threshold=float(np.nextafter(np.float32(threshold), np.float32(0))))


def identify(spec: str) -> str:
    """A name for a model or an encoder: of a path, with a short checksum of its files, wherever they lie.

    Raises:
        OSError: a file cannot be read.
    """
    path = shipped_folder(spec) or Path(spec)
    if not path.exists():
        return spec
    folder = path if path.is_dir() else path.parent
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return f"{path.resolve().name} ({checksum(folder, [str(file.relative_to(folder)) for file in files])[:12]})"


def plan_predictions(job: PredictionJob, held: ExitStack | None = None) -> Plan:
    """What is left to do; everything that can be wrong without a model is found here, before hours of work.

    Args:
        job: what to predict.
        held: keeps other processes off these predictions until it is closed; None: nothing does.

    Raises:
        EvaluationError: the annotations cannot be read, or what stands at the output is of another run.
        ImageError: a picture is missing.
        OutputError: another process makes these predictions, or their place is not writable.
    """
    if not job.truth.is_file():
        raise EvaluationError("no such file", where=str(job.truth), hint="check the path")
    folders = ", ".join(str(folder.resolve()) for folder in job.images)
    run = {"annotations": file_fingerprint(job.truth)[:16], "images": folders, **job.maker}
    if job.output.is_dir():
        raise EvaluationError("a folder where predictions are to be written", where=str(job.output), hint="give a file")
    journal = Journal(job.output, run)
    if journal.is_complete():
        return Plan((), 0, journal, is_complete=True)
    pictures = read_pictures(job.truth, job.images)
    if held is not None:
        held.enter_context(journal.only_writer())
    return Plan(pictures, journal.recover([one.name for one in pictures]), journal, is_complete=False)


def predict(plan: Plan, segmenter: Segmenter, progress: Progress | None = None) -> None:
    """Do what is left of a plan and write the predictions.

    Stopped at any point, it loses the picture under way: make the plan again and go on.

    Args:
        plan: of `plan_predictions`.
        segmenter: finds instances; its options say from which score on (`options_for`). With an encoder that reads
            texts together, scores of a run that was stopped may differ in their last bits; `AsTextEncoder` with
            ``one_by_one`` prevents that.
        progress: told the stage and the share done.

    Raises:
        ImageError: a picture cannot be read, or has another size than the annotations say.
        EncoderError: the encoder fails.
        OSError: the predictions cannot be written.
    """
    if plan.is_complete:
        return
    for number in range(plan.finished, len(plan.pictures)):
        if progress is not None:
            progress("predicting", number / len(plan.pictures))
        picture = plan.pictures[number]
        plan.journal.append(picture.name, find_instances(segmenter, picture))
    plan.journal.finish([one.name for one in plan.pictures])
    if progress is not None:
        progress("predicting", 1.0)


def read_pictures(truth: Path, folders: Sequence[Path]) -> tuple[Picture, ...]:
    """The pictures of an annotator's file in the order in which they first stand there, each with all its pairs.

    Raises:
        EvaluationError: the file cannot be read, or a pair lacks something.
        ImageError: a picture is in none of the folders.
    """
    return find_pictures(by_id(entries(read_annotator(truth), "images", truth)), folders)


def find_pictures(pairs: Mapping[PairId, Entry], folders: Sequence[Path]) -> tuple[Picture, ...]:
    """As `read_pictures`, of the entries of pairs.

    Raises:
        EvaluationError: a pair lacks something, or a ``file_name`` leads out of the folders.
        ImageError: a picture is in none of the folders.
    """
    asked: dict[str, list[Entry]] = {}
    for entry in pairs.values():
        entry.text("text_input")
        asked.setdefault(entry.text("file_name"), []).append(entry)
    files = _locate(asked, folders)
    return tuple(
        Picture(name, files[name], _common_size(listed), {one.number("id"): one.text("text_input") for one in listed})
        for name, listed in asked.items()
    )


def find_instances(segmenter: Segmenter, picture: Picture) -> list[dict[str, Any]]:
    """The COCO results of a picture: ``image_id`` is the pair, ``bbox`` is x, y, width, height in pixels.

    Raises:
        ImageError: it cannot be read, or has another size than the annotations say.
        EncoderError: the encoder fails.
    """
    embedding = segmenter.embed(open_picture(picture))
    asked = list(picture.phrases.items())
    results: list[dict[str, Any]] = []
    # As many phrases at once as the decoder takes: with a low threshold the masks of all of them would fill the memory.
    step = segmenter.options.prompt_batch
    for start in range(0, len(asked), step):
        pairs, phrases = zip(*asked[start : start + step], strict=True)
        for pair, masks in zip(pairs, segmenter.segment_embedding(embedding, phrases), strict=True):
            found = masks.to_coco(0, _CATEGORY)
            results += [{"image_id": pair, **{key: one[key] for key in _RESULT}} for one in found]
    return results


def open_picture(picture: Picture) -> Image.Image:
    """Read a picture.

    Raises:
        ImageError: it cannot be read, or has another size than the annotations say.
    """
    image = read_image(picture.file)
    if picture.size not in (None, (image.height, image.width)):
        height, width = picture.size or (0, 0)
        raise ImageError(
            f"{image.width} x {image.height} pixels where the annotations say {width} x {height}",
            where=f"{picture.file}, pair {next(iter(picture.phrases))!r}",
            hint="give the picture that was annotated",
        )
    return image


def _locate(asked: Mapping[str, Sequence[Entry]], folders: Sequence[Path]) -> dict[str, Path]:
    """Where the pictures are."""
    for folder in folders:
        if not folder.is_dir():
            raise ImageError("no such folder", where=str(folder), hint="check --images")
    for name, (entry, *_) in asked.items():
        try:
            inside(Path(), name)
        except ValueError as error:
            raise entry.wrong("file_name", "give a path within the folder of the pictures") from error
    files = {name: next((one / name for one in folders if (one / name).is_file()), None) for name in asked}
    missing = [name for name, file in files.items() if file is None]
    if missing:
        pair = asked[missing[0]][0].number("id")
        raise ImageError(
            f"{len(missing)} of {len(files)} pictures are missing, the first is '{missing[0]}' of the pair {pair!r}",
            where=", ".join(map(str, folders)),
            hint="--images is the folder that file_name starts in; give it again for a second folder",
        )
    return {name: file for name, file in files.items() if file is not None}


def _common_size(listed: Sequence[Entry]) -> tuple[int, int] | None:
    """The size that the pairs of a picture say."""
    sizes: dict[tuple[int, int], Entry] = {}
    for entry in listed:
        if entry.size is not None:
            sizes.setdefault(entry.size, entry)
    if len(sizes) > 1:
        first, other, *_ = sizes.values()
        raise EvaluationError(
            f"the picture '{first.text('file_name')}' has another size in {first.place}",
            where=other.place,
            hint="fix width and height",
        )
    return next(iter(sizes), None)
